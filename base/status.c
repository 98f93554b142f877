#include "base/status.h"

const char *status_str(enum status st)
{
#define STATUS_TEXT(code, text) \
    case code:                  \
        return text;
    switch (st) {
        STATUS_MAP(STATUS_TEXT)
    }
#undef STATUS_TEXT
    return "unknown status";
}
