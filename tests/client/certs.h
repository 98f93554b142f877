/* tests/client/certs.h - certificates for a test, made when it runs. All texts are PEM, owned by
 * the struct: certs_free(). */
#ifndef TESTS_CLIENT_CERTS_H
#define TESTS_CLIENT_CERTS_H

struct cert {
    char *cert_pem, *key_pem;
    void *x509, *key; /* OpenSSL's */
};

/* A certificate named name, good for 127.0.0.1 and localhost, signed by issuer, or by itself when
 * that is NULL. Aborts when it cannot. */
struct cert cert_new(const char *name, const struct cert *issuer);
void cert_free(struct cert *cert);
#endif
