#include "server/run/signals.h"

#include "base/assert.h"
#include "server/run/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

void signals_take(int signal_fd)
{
    struct signalfd_siginfo info;
    while (read(signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        ASSERT(errno == EINTR); /* anything else stays as it is */
    log_info("received signal; shutting down",
             LOG_STR("signal", info.ssi_signo == SIGINT ? "interrupt" : "terminated"));
}

static void *watch_signals(void *argument)
{
    struct signals_watch *watch = argument;
    struct pollfd fds[2] = {{.fd = watch->signal_fd, .events = POLLIN},
                            {.fd = watch->stop_fd, .events = POLLIN}};
    while (poll(fds, 2, /* timeout= */ -1) < 0)
        ASSERT(errno == EINTR);
    if (fds[1].revents != 0)
        return NULL;
    signals_take(watch->signal_fd);
    log_info("ended while starting; the next start begins anew");
    _exit(0); /* not exit(): the start goes on beside this */
}

enum status signals_watch_start(struct signals_watch *watch, int signal_fd)
{
    *watch = (struct signals_watch){.signal_fd = signal_fd, .stop_fd = eventfd(0, EFD_CLOEXEC)};
    if (watch->stop_fd < 0)
        return ST_IO;
    if (pthread_create(&watch->thread, NULL, watch_signals, watch) != 0) {
        close(watch->stop_fd);
        return ST_NO_MEMORY;
    }
    pthread_setname_np(watch->thread, "signals");
    return ST_OK;
}

void signals_watch_stop(struct signals_watch *watch)
{
    eventfd_write(watch->stop_fd, 1);
    pthread_join(watch->thread, NULL);
    close(watch->stop_fd);
}
