#include "server/run/notify.h"

#include "server/run/log.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
        return;
    size_t length = strlen(path);
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') /* the abstract name space */
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    static const char message[] = "READY=1";
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    log_info("notifying init daemon");
    if (sendto(fd, message, sizeof(message) - 1, MSG_NOSIGNAL, (struct sockaddr *)&address, size) <
        0)
        log_warn("failed to notify init daemon", LOG_ERRNO(errno));
    else
        log_info("successfully notified init daemon");
    close(fd);
}
