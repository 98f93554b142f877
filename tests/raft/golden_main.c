/* Runs golden scripts, ours and those of etcd's raft: raft_golden --dir DIR, where DIR holds
 * quorum/, confchange/ and interaction/. With --protocol lines of log text are not compared; with
 * --rewrite the files are brought to what is printed (read the difference!). */
#include "tests/raft/golden.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_script(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && strcmp(dot, ".txt") == 0;
}

struct counts {
    int passed, failed;
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
        int failures = run(path);
        printf("%s %s/%s\n", failures == 0 ? "pass" : "FAIL", folder, entries[i]->d_name);
        counts->passed += failures == 0;
        counts->failed += failures != 0;
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    const char *how = argc == 4 ? argv[3] : "";
    if (argc < 3 || strcmp(argv[1], "--dir") != 0 ||
        (argc == 4 && strcmp(how, "--protocol") != 0 && strcmp(how, "--rewrite") != 0)) {
        fprintf(stderr, "usage: %s --dir DIR [--protocol|--rewrite]\n", argv[0]);
        return 2;
    }
    if (strcmp(how, "--protocol") == 0)
        script_set_mode(SCRIPT_PROTOCOL);
    if (strcmp(how, "--rewrite") == 0)
        script_set_mode(SCRIPT_REWRITE);
    struct counts counts = {0};
    run_folder(argv[2], "quorum", golden_quorum, &counts);
    run_folder(argv[2], "confchange", golden_conf_change, &counts);
    run_folder(argv[2], "interaction", golden_interaction, &counts);
    printf("%d passed, %d failed\n", counts.passed, counts.failed);
    return counts.failed > 0 || counts.passed == 0;
}
