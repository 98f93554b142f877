#include "server/state/error.h"

#include "base/assert.h"

static const struct {
    uint32_t code;
    const char *text;
} errors[API_ERRORS_COUNT] = {
#define API_ERROR_ROW(name, number, words) [name] = {.code = (number), .text = (words)},
    API_ERROR_MAP(API_ERROR_ROW)
#undef API_ERROR_ROW
};

const char *api_error_text(enum api_error error)
{
    ASSERT(error < API_ERRORS_COUNT);
    return errors[error].text;
}

uint32_t api_error_code(enum api_error error)
{
    ASSERT(error < API_ERRORS_COUNT);
    return errors[error].code;
}

enum api_error api_error_of(enum status st)
{
    switch (st) {
    case ST_OK:
        return API_OK;
    case ST_COMPACTED:
        return API_COMPACTED;
    case ST_FUTURE:
        return API_FUTURE_REVISION;
    case ST_NOT_FOUND:
        return API_KEY_NOT_FOUND;
    case ST_TOO_BIG:
        return API_RESPONSE_TOO_LARGE;
    case ST_INVALID:
    case ST_TRUNCATED:
    case ST_UNSUPPORTED:
    case ST_EXISTS:
        return API_UNDECODABLE;
    case ST_BUSY:
    case ST_DROPPED:
        return API_TOO_MANY_REQUESTS;
    case ST_CANCELED:
        return API_CANCELED;
    case ST_NO_MEMORY:
        return API_NO_MEMORY;
    case ST_NO_SPACE:
        return API_DISK_FULL;
    case ST_IO:
        return API_IO;
    case ST_CORRUPT:
        return API_STORE_CORRUPT;
    }
    return API_IO;
}
