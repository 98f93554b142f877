/* Runs a fuzz target over the files of a folder: the corpus as an ordinary test, without libFuzzer.
 */
#include <dirent.h>
#include <stdint.h>

#define FILE_BYTES_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_file(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return;
    uint8_t *data = malloc(FILE_BYTES_MAX);
    if (data != NULL)
        LLVMFuzzerTestOneInput(data, fread(data, 1, FILE_BYTES_MAX, file));
    free(data);
    fclose(file);
}

int main(int argc, char **argv)
{
    uint8_t nothing = 0;
    LLVMFuzzerTestOneInput(&nothing, 0);
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (folder == NULL)
            continue;
        for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
            if (entry->d_name[0] != '.')
                run_file(argv[i], entry->d_name);
        }
        closedir(folder);
    }
    return 0;
}
