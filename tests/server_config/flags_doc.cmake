# Compares what flags_doc prints (PROGRAM) with DOC.
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
file(READ ${DOC} stored)
if(NOT printed STREQUAL stored)
    message(FATAL_ERROR "${DOC} is out of date; run: cmake --build --preset dev -t flags_doc_update")
endif()
