#include "server/run/signals.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_signals_take_returns_with_the_signal(void **state)
{
    (void)state;
    int fd = signals_open();
    assert_true(fd >= 0);
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    signals_take(fd);
    close(fd);
}

/* A member that spins here hears no signal any more. */
static void test_signals_take_ends_the_process_when_its_descriptor_fails(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        freopen("/dev/null", "w", stderr);
        alarm(20);
        signals_take(/* signal_fd= */ -1);
        _exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_take_returns_with_the_signal),
        cmocka_unit_test(test_signals_take_ends_the_process_when_its_descriptor_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
