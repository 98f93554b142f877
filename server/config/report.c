#include "server/config/config.h"

static void print(FILE *file, const struct buf *text)
{
    if (text->len > 0)
        (void)fwrite(text->data, 1, text->len, file);
    (void)fflush(file);
}

void config_report(const struct config *config)
{
    print(stdout, &config->out);
    print(stderr, &config->err);
    for (const struct config_note *note = config->notes; note != NULL; note = note->next) {
        if (note->keys[1] != NULL)
            LOG_AT(note->level, note->msg, LOG_STR(note->keys[0], note->values[0]),
                   LOG_STR(note->keys[1], note->values[1]));
        else if (note->keys[0] != NULL)
            LOG_AT(note->level, note->msg, LOG_STR(note->keys[0], note->values[0]));
        else
            LOG_AT(note->level, note->msg);
    }
}
