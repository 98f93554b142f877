# Toolchain for Debian's gcc-aarch64-linux-gnu; CLEAT_SYSROOT is a tree of unpacked arm64 packages
# (scripts/cross-test-aarch64 makes it). Tests run under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CLEAT_SYSROOT)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_SYSROOT ${CLEAT_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${CLEAT_SYSROOT})
# Libraries of libraries (libsqlite3 needs libm) lie in two folders of the tree.
set(CMAKE_EXE_LINKER_FLAGS_INIT
    "-Wl,-rpath-link,${CLEAT_SYSROOT}/lib/aarch64-linux-gnu:${CLEAT_SYSROOT}/usr/lib/aarch64-linux-gnu")

set(ENV{PKG_CONFIG_DIR} "")
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${CLEAT_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR}
    ${CLEAT_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${CLEAT_SYSROOT}/usr/share/pkgconfig)
