/* server/run/notify.h - tells systemd that the service is ready (sd_notify(3), without its
 * library). */
#ifndef SERVER_RUN_NOTIFY_H
#define SERVER_RUN_NOTIFY_H

void notify_ready(void); /* does nothing where NOTIFY_SOCKET is not set */
#endif
