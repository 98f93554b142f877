/* TLS material from files, as the flags name them. */
#include "tools/ctl/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#define PEM_BYTES_MAX (4U << 20) /* a bundle of every authority there is has a quarter of that */

/* Errors as Go tells them: "open F: no such file or directory". */
static int tell(struct cli *cli, const char *what, const char *path)
{
    const char *reason = strerror(errno);
    return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s %s: %c%s", what, path, tolower(reason[0]),
                    reason + 1);
}

/* The whole file, NUL-terminated, in the cli's arena. Returns an exit code. */
static int read_pem(struct cli *cli, const char *path, const char **out)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return tell(cli, "open", path);
    char *text = arena_alloc_raw(&cli->arena, PEM_BYTES_MAX + 1);
    size_t len = text != NULL ? fread(text, 1, PEM_BYTES_MAX, file) : 0;
    int code = CLI_EXIT_OK;
    if (text == NULL)
        code = cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    else if (ferror(file))
        code = tell(cli, "read", path);
    else if (len == PEM_BYTES_MAX)
        code = cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s is too large for a certificate", path);
    fclose(file);
    if (code == CLI_EXIT_OK) {
        text[len] = '\0';
        *out = text;
    }
    return code;
}

/* ---- is it what it should be? gRPC would only tell that no connection can be made ---- */

static bool is_pem(const char *text)
{
    return strstr(text, "-----BEGIN ") != NULL;
}

static X509 *first_certificate(const char *text)
{
    BIO *bio = BIO_new_mem_buf(text, -1);
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return certificate;
}

/* A key in a passphrase is none for us: nobody could be asked. */
static int no_passphrase(char *out, int size, int writes, void *context)
{
    (void)out;
    (void)size;
    (void)writes;
    (void)context;
    return -1;
}

static EVP_PKEY *first_key(const char *text)
{
    BIO *bio = BIO_new_mem_buf(text, -1);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return key;
}

/* NULL, or what Go would say. */
static const char *judge_pair(const char *cert_pem, const char *key_pem)
{
    if (!is_pem(cert_pem))
        return "tls: failed to find any PEM data in certificate input";
    if (!is_pem(key_pem))
        return "tls: failed to find any PEM data in key input";
    X509 *certificate = first_certificate(cert_pem);
    EVP_PKEY *key = first_key(key_pem);
    const char *error = NULL;
    if (certificate == NULL && strstr(cert_pem, "PRIVATE KEY-----") != NULL)
        error = "tls: failed to find certificate PEM data in certificate input, but did find a "
                "private key; PEM inputs may have been switched";
    else if (certificate == NULL)
        error = "x509: malformed certificate";
    else if (key == NULL && strstr(key_pem, "CERTIFICATE-----") != NULL)
        error = "tls: found a certificate rather than a key in the PEM for the private key";
    else if (key == NULL)
        error = "tls: failed to parse private key";
    else if (X509_check_private_key(certificate, key) != 1)
        error = "tls: private key does not match public key";
    X509_free(certificate);
    EVP_PKEY_free(key);
    return error;
}

static const char *judge_authorities(const char *pem)
{
    X509 *certificate = first_certificate(pem);
    X509_free(certificate);
    return certificate != NULL ? NULL : "x509: malformed certificate";
}

static int read_own(struct cli *cli, const char *cert, const char *key, struct client_tls *out)
{
    if (*cert == '\0' || *key == '\0')
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "KeyFile and CertFile must both be present[key: %s, cert: %s]", key, cert);
    int code = read_pem(cli, cert, &out->cert_pem);
    if (code == CLI_EXIT_OK)
        code = read_pem(cli, key, &out->key_pem);
    if (code != CLI_EXIT_OK)
        return code;
    const char *error = judge_pair(out->cert_pem, out->key_pem);
    return error == NULL ? CLI_EXIT_OK : cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s", error);
}

static int read_authorities(struct cli *cli, const char *path, struct client_tls *out)
{
    int code = read_pem(cli, path, &out->ca_pem);
    const char *error = code == CLI_EXIT_OK ? judge_authorities(out->ca_pem) : NULL;
    return error == NULL ? code : cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s", error);
}

int ctl_read_tls(struct cli *cli, const char *prefix, struct ctl_options *out)
{
    static const char *const names[] = {"cert", "key", "cacert"};
    const char *paths[3];
    for (size_t i = 0; i < 3; i++) {
        const char *flag = cli_format(cli, "%s%s", prefix, names[i]);
        paths[i] = cli_string(cli, flag);
        if (*prefix == '\0' && cli_given(cli, flag) && *paths[i] == '\0')
            return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "empty string is passed to --%s option",
                            flag);
    }
    out->tls = (struct client_tls){.ca_pem = NULL};
    bool has_own = *paths[0] != '\0' || *paths[1] != '\0', has_ca = *paths[2] != '\0';
    int code = has_own ? read_own(cli, paths[0], paths[1], &out->tls) : CLI_EXIT_OK;
    if (code == CLI_EXIT_OK && has_ca)
        code = read_authorities(cli, paths[2], &out->tls);
    out->has_tls =
        has_own || has_ca || !cli_bool(cli, cli_format(cli, "%sinsecure-transport", prefix));
    out->tls.skip_verify = *prefix == '\0' && cli_bool(cli, "insecure-skip-tls-verify");
    return code;
}
