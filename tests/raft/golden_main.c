/* Runs etcd's golden scripts for raft: raft_golden --dir DIR, where DIR holds quorum/, confchange/
 * and interaction/. Skips (exit 77) when the folder is not there. */
#include "tests/raft/golden.h"

#include "base/assert.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a script may ask for that the core does not do yet: the script is passed over, by name. */
static const char *const missing[] = {
    "MsgSnap",
    "send-snapshot",
    "transfer-leadership",
    "MsgTimeoutNow",
    "disable-conf-change-validation",
    "read-only=lease-based",
};

static const char *needs(const char *path)
{
    static char text[1 << 20];
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
        if (strstr(text, missing[i]) != NULL)
            return missing[i];
    }
    return NULL;
}

static int is_script(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && strcmp(dot, ".txt") == 0;
}

struct counts {
    int passed, failed, skipped;
};

static void run_folder(const char *dir, const char *folder, int (*run)(const char *path),
                       struct counts *counts)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, folder);
    struct dirent **entries;
    int count = scandir(path, &entries, is_script, alphasort);
    if (count < 0)
        return; /* this set of scripts is without it */
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s/%s/%s", dir, folder, entries[i]->d_name);
        const char *what = needs(path);
        if (what != NULL) {
            printf("skip %s/%s: needs %s\n", folder, entries[i]->d_name, what);
            counts->skipped++;
        } else {
            int failures = run(path);
            printf("%s %s/%s\n", failures == 0 ? "pass" : "FAIL", folder, entries[i]->d_name);
            counts->passed += failures == 0;
            counts->failed += failures != 0;
        }
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "--dir") != 0) {
        fprintf(stderr, "usage: %s --dir DIR\n", argv[0]);
        return 2;
    }
    struct stat st;
    if (stat(argv[2], &st) != 0) {
        printf("skipped: there is no folder '%s'\n", argv[2]);
        return 77;
    }
    struct counts counts = {0};
    run_folder(argv[2], "quorum", golden_quorum, &counts);
    run_folder(argv[2], "confchange", golden_conf_change, &counts);
    run_folder(argv[2], "interaction", golden_interaction, &counts);
    printf("%d passed, %d failed, %d skipped\n", counts.passed, counts.failed, counts.skipped);
    return counts.failed > 0 || counts.passed == 0;
}
