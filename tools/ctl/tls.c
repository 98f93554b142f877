/* TLS material from files, as the flags name them. */
#include "tools/ctl/ctl.h"

#include <ctype.h>
#include <errno.h>
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
    if (strstr(out->cert_pem, "-----BEGIN ") == NULL)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "tls: failed to find any PEM data in certificate input");
    if (strstr(out->key_pem, "-----BEGIN ") == NULL)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "tls: failed to find any PEM data in key input");
    return CLI_EXIT_OK;
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
        code = read_pem(cli, paths[2], &out->tls.ca_pem);
    out->has_tls =
        has_own || has_ca || !cli_bool(cli, cli_format(cli, "%sinsecure-transport", prefix));
    out->tls.skip_verify = *prefix == '\0' && cli_bool(cli, "insecure-skip-tls-verify");
    return code;
}
