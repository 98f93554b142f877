#include "tools/client/client.h"

#include "tests/client/certs.h"
#include "tests/client/echo_server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
    struct cert ca, other_ca, server_cert, client_cert;
    struct echo_server *server, *strict; /* strict wants a certificate of the client */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->ca = cert_new("ca", NULL);
    f->other_ca = cert_new("other", NULL);
    f->server_cert = cert_new("server", &f->ca);
    f->client_cert = cert_new("alice", &f->ca);
    f->server = echo_server_start_tls(f->server_cert.cert_pem, f->server_cert.key_pem, NULL);
    f->strict =
        echo_server_start_tls(f->server_cert.cert_pem, f->server_cert.key_pem, f->ca.cert_pem);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    echo_server_stop(f->server);
    echo_server_stop(f->strict);
    cert_free(&f->ca);
    cert_free(&f->other_ca);
    cert_free(&f->server_cert);
    cert_free(&f->client_cert);
    free(f);
    return 0;
}

/* The code of one call of "/echo". */
static uint32_t echo(const char *endpoint, const struct client_tls *tls)
{
    struct client_options options = {.endpoints = endpoint, .tls = tls};
    struct client *client = NULL;
    assert_int_equal(client_open(&options, &client), ST_OK);
    struct arena arena;
    arena_init(&arena, 1U << 20);
    struct client_request request = {.method = "/echo", .body = SLICE("x"), .timeout_ms = 10000};
    struct client_reply reply;
    assert_int_equal(client_call(client, &request, &arena, &reply), ST_OK);
    uint32_t code = reply.code;
    arena_deinit(&arena);
    client_close(client);
    return code;
}

static void test_tls_trusts_the_given_authority_only(void **state)
{
    struct fixture *f = *state;
    const char *endpoint = echo_server_endpoint(f->server);
    struct client_tls right = {.ca_pem = f->ca.cert_pem}, wrong = {.ca_pem = f->other_ca.cert_pem};
    assert_int_equal(echo(endpoint, &right), CLIENT_OK);
    assert_int_equal(echo(endpoint, &wrong), CLIENT_UNAVAILABLE);
    assert_int_equal(echo(endpoint, NULL), CLIENT_UNAVAILABLE); /* the system's roots */
}

/* An endpoint without a scheme is TLS when TLS is configured; http never is. */
static void test_tls_follows_the_scheme(void **state)
{
    struct fixture *f = *state;
    struct client_tls tls = {.ca_pem = f->ca.cert_pem};
    assert_int_equal(echo(echo_server_address(f->server), &tls), CLIENT_OK);
    assert_int_equal(echo(echo_server_address(f->server), NULL), CLIENT_UNAVAILABLE);
    char plain[64];
    snprintf(plain, sizeof(plain), "http://%s", echo_server_address(f->server));
    assert_int_equal(echo(plain, &tls), CLIENT_UNAVAILABLE);
}

static void test_tls_shows_its_own_certificate(void **state)
{
    struct fixture *f = *state;
    const char *endpoint = echo_server_endpoint(f->strict);
    struct client_tls tls = {.ca_pem = f->ca.cert_pem};
    assert_int_equal(echo(endpoint, &tls), CLIENT_UNAVAILABLE);
    tls.cert_pem = f->client_cert.cert_pem;
    tls.key_pem = f->client_cert.key_pem;
    assert_int_equal(echo(endpoint, &tls), CLIENT_OK);
}

static void test_tls_takes_any_certificate_when_told_so(void **state)
{
    struct fixture *f = *state;
    struct client_tls tls = {.skip_verify = true};
    assert_int_equal(echo(echo_server_endpoint(f->server), &tls), CLIENT_OK);
    tls.ca_pem = f->other_ca.cert_pem;
    tls.cert_pem = f->client_cert.cert_pem;
    tls.key_pem = f->client_cert.key_pem;
    assert_int_equal(echo(echo_server_endpoint(f->strict), &tls), CLIENT_OK);
}

static void test_tls_wants_the_name_it_is_told_to(void **state)
{
    struct fixture *f = *state;
    struct client_tls tls = {.ca_pem = f->ca.cert_pem, .server_name = "localhost"};
    assert_int_equal(echo(echo_server_endpoint(f->server), &tls), CLIENT_OK);
    tls.server_name = "elsewhere";
    assert_int_equal(echo(echo_server_endpoint(f->server), &tls), CLIENT_UNAVAILABLE);
}

/* What is in the files is a user's: it may be anything. */
static void test_tls_with_nonsense_for_material_reaches_nobody(void **state)
{
    struct fixture *f = *state;
    struct client_tls tls = {.ca_pem = "nonsense"};
    assert_int_equal(echo(echo_server_endpoint(f->server), &tls), CLIENT_UNAVAILABLE);
    tls = (struct client_tls){
        .ca_pem = f->ca.cert_pem, .cert_pem = "nonsense", .key_pem = "nonsense"};
    assert_int_equal(echo(echo_server_endpoint(f->server), &tls), CLIENT_UNAVAILABLE);
    tls.skip_verify = true;
    assert_int_equal(echo(echo_server_endpoint(f->server), &tls), CLIENT_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_trusts_the_given_authority_only),
        cmocka_unit_test(test_tls_follows_the_scheme),
        cmocka_unit_test(test_tls_shows_its_own_certificate),
        cmocka_unit_test(test_tls_takes_any_certificate_when_told_so),
        cmocka_unit_test(test_tls_wants_the_name_it_is_told_to),
        cmocka_unit_test(test_tls_with_nonsense_for_material_reaches_nobody),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
