/*
 * JSON for tasks in C, part of stockade.h: a buffer to write it into, and values to read.
 *
 *     text ─► stockade_json_parse ─► stockade_json, a slice of checked text ─► _i64, _text, _member …
 *     stockade_put, _put_i64, _put_text … ─► stockade_buffer
 *
 * A function that reads says whether the value is of its type. Want of memory is a trap.
 */
#ifndef STOCKADE_JSON_H
#define STOCKADE_JSON_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How deep JSON may be nested. */
#define STOCKADE_DEPTH_MAX 128

/* ---- Memory of a call: freed when the task returns. ---- */

typedef struct stockade__block {
    struct stockade__block *previous, *next;
} stockade__block;

/* One list for the program, however many of its files include this. */
__attribute__((weak)) stockade__block *stockade__blocks;

static inline void *stockade__resize(void *memory, size_t length) {
    stockade__block *block = memory ? (stockade__block *)memory - 1 : NULL;
    if (length > SIZE_MAX / 2) __builtin_trap();
    block = realloc(block, sizeof *block + length);
    if (!block) __builtin_trap();
    if (!memory) *block = (stockade__block){NULL, stockade__blocks};
    *(block->previous ? &block->previous->next : &stockade__blocks) = block;
    if (block->next) block->next->previous = block;
    return block + 1;
}

static inline void stockade__free_all(void) {
    while (stockade__blocks) {
        stockade__block *block = stockade__blocks;
        stockade__blocks = block->next;
        free(block);
    }
}

/* Memory until the task returns. What outlives it, as what an initializer loads, is malloc's. */
static inline void *stockade_alloc(size_t length) { return stockade__resize(NULL, length); }

/* ---- Text, and bytes that grow. ---- */

/* Text or bytes; not ended by a zero. */
typedef struct {
    const char *bytes;
    size_t length;
} stockade_text;
/* Begins as {0}. */
typedef struct {
    char *bytes;
    size_t length, capacity;
} stockade_buffer;

static inline stockade_text stockade_text_of(const char *text) { return (stockade_text){text, strlen(text)}; }

static inline void stockade_put_bytes(stockade_buffer *buffer, const void *bytes, size_t length) {
    if (length > SIZE_MAX / 2 - buffer->length) __builtin_trap();
    if (buffer->length + length > buffer->capacity) {
        buffer->capacity = (buffer->length + length) * 2;
        buffer->bytes = stockade__resize(buffer->bytes, buffer->capacity);
    }
    if (length) memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

/* Appends text as it is: braces, commas and names of JSON. */
static inline void stockade_put(stockade_buffer *buffer, const char *text) {
    stockade_put_bytes(buffer, text, strlen(text));
}

/* Appends a JSON number. */
static inline void stockade_put_i64(stockade_buffer *buffer, int64_t number) {
    char digits[24];
    stockade_put_bytes(buffer, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)number));
}

/* Appends the shortest JSON number that is read as this one; null for what JSON cannot write. */
static inline void stockade_put_f64(stockade_buffer *buffer, double number) {
    char digits[32];
    if (!isfinite(number)) {
        stockade_put(buffer, "null");
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (strtod(digits, NULL) == number) break;
    }
    stockade_put(buffer, digits);
}

/* Appends a JSON text with its quotes. */
static inline void stockade_put_text(stockade_buffer *buffer, stockade_text text) {
    stockade_put(buffer, "\"");
    for (size_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.bytes[i];
        char escape[8];
        if (byte == '"' || byte == '\\') snprintf(escape, sizeof escape, "\\%c", byte);
        else if (byte < 0x20) snprintf(escape, sizeof escape, "\\u%04x", byte);
        else {
            stockade_put_bytes(buffer, &text.bytes[i], 1);
            continue;
        }
        stockade_put(buffer, escape);
    }
    stockade_put(buffer, "\"");
}

/* Appends a JSON text that is `bytes` in base64. */
static inline void stockade_put_base64(stockade_buffer *buffer, stockade_text bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    stockade_put(buffer, "\"");
    for (size_t i = 0; i < bytes.length; i += 3) {
        size_t left = bytes.length - i;
        uint32_t group = (uint32_t)(unsigned char)bytes.bytes[i] << 16;
        if (left > 1) group |= (uint32_t)(unsigned char)bytes.bytes[i + 1] << 8;
        if (left > 2) group |= (unsigned char)bytes.bytes[i + 2];
        char four[4] = {digits[group >> 18], digits[group >> 12 & 63], digits[group >> 6 & 63],
                        digits[group & 63]};
        if (left < 3) four[3] = '=';
        if (left < 2) four[2] = '=';
        stockade_put_bytes(buffer, four, 4);
    }
    stockade_put(buffer, "\"");
}

/* ---- Reading JSON: a value is a slice of checked text. ---- */

typedef struct {
    const char *at, *end;
} stockade_json;

static inline const char *stockade__space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

static inline const char *stockade__digits(const char *at, const char *end) {
    const char *first = at;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at > first ? at : NULL;
}

static inline const char *stockade__number_end(const char *at, const char *end) {
    if (at < end && *at == '-') at++;
    const char *whole = at;
    at = stockade__digits(at, end);
    if (!at || (*whole == '0' && at > whole + 1)) return NULL;
    if (at < end && *at == '.' && !(at = stockade__digits(at + 1, end))) return NULL;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        at = stockade__digits(at, end);
    }
    return at;
}

static inline const char *stockade__text_end(const char *at, const char *end) {
    for (at++; at < end && (unsigned char)*at >= 0x20; at++) {
        if (*at == '"') return at + 1;
        if (*at == '\\') at++;
    }
    return NULL;
}

/* Behind the value at `at`; NULL where there is none. */
static inline const char *stockade__value_end(const char *at, const char *end, int depth) {
    static const char *const words[] = {"null", "true", "false"};
    if (at >= end || depth == 0) return NULL;
    if (*at == '"') return stockade__text_end(at, end);
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(end - at) >= length && !memcmp(at, words[i], length)) return at + length;
    }
    if (*at != '[' && *at != '{') return stockade__number_end(at, end);
    char close = *at == '[' ? ']' : '}';
    at = stockade__space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    while (at < end) {
        if (close == '}') {
            if (*at != '"' || !(at = stockade__text_end(at, end))) return NULL;
            at = stockade__space(at, end);
            if (at == end || *at != ':') return NULL;
            at = stockade__space(at + 1, end);
        }
        if (!(at = stockade__value_end(at, end, depth - 1))) return NULL;
        at = stockade__space(at, end);
        if (at == end) return NULL;
        if (*at == close) return at + 1;
        if (*at != ',') return NULL;
        at = stockade__space(at + 1, end);
    }
    return NULL;
}

/* Whether all of `text` is UTF-8, as RFC 3629 has it. */
static inline bool stockade_is_utf8(stockade_text text) {
    const unsigned char *at = (const unsigned char *)text.bytes, *end = at + text.length;
    while (at < end) {
        unsigned char first = *at++;
        int more = first < 0x80   ? 0
                   : first < 0xc2 ? -1
                   : first < 0xe0 ? 1
                   : first < 0xf0 ? 2
                   : first < 0xf5 ? 3
                                  : -1;
        if (more < 0 || end - at < more) return false;
        if (more && ((first == 0xe0 && *at < 0xa0) || (first == 0xed && *at > 0x9f) ||
                     (first == 0xf0 && *at < 0x90) || (first == 0xf4 && *at > 0x8f)))
            return false;
        while (more--)
            if ((*at++ & 0xc0) != 0x80) return false;
    }
    return true;
}

/* The whole of `text` as a value. */
static inline bool stockade_json_parse(stockade_text text, stockade_json *value) {
    const char *end = text.bytes + text.length, *at = stockade__space(text.bytes, end);
    if (!text.length || !stockade_is_utf8(text)) return false;
    *value = (stockade_json){at, stockade__value_end(at, end, STOCKADE_DEPTH_MAX)};
    return value->end && stockade__space(value->end, end) == end;
}

static inline bool stockade_json_is_null(stockade_json value) { return *value.at == 'n'; }

static inline bool stockade_json_bool(stockade_json value, bool *flag) {
    *flag = *value.at == 't';
    return *flag || *value.at == 'f';
}

/* An integer: no fraction, no exponent, and within 64 bits. */
static inline bool stockade_json_i64(stockade_json value, int64_t *number) {
    bool negative = *value.at == '-';
    uint64_t limit = (uint64_t)INT64_MAX + negative, sum = 0;
    for (const char *at = value.at + negative; at < value.end; at++) {
        if (*at < '0' || *at > '9') return false;
        uint64_t digit = (uint64_t)(*at - '0');
        if (sum > (limit - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *number = (int64_t)(negative ? 0 - sum : sum);
    return true;
}

static inline bool stockade_json_f64(stockade_json value, double *number) {
    if (*value.at != '-' && (*value.at < '0' || *value.at > '9')) return false;
    char *copy = strndup(value.at, (size_t)(value.end - value.at));
    if (!copy) __builtin_trap();
    *number = strtod(copy, NULL);
    free(copy);
    return isfinite(*number);
}

static inline bool stockade__hex4(const char *at, const char *end, uint32_t *unit) {
    *unit = 0;
    if (end - at < 4) return false;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit = c >= '0' && c <= '9'                 ? (uint32_t)(c - '0')
                         : (c | 32) >= 'a' && (c | 32) <= 'f' ? (uint32_t)((c | 32) - 'a' + 10)
                                                              : 16;
        if (digit > 15) return false;
        *unit = *unit << 4 | digit;
    }
    return true;
}

/* A text, its escapes resolved. */
static inline bool stockade_json_text(stockade_json value, stockade_text *text) {
    if (*value.at != '"') return false;
    const char *at = value.at + 1, *end = value.end - 1;
    char *into = stockade_alloc((size_t)(end - at) + 1);
    *text = (stockade_text){into, 0};
    while (at < end) {
        if (*at != '\\') {
            *into++ = *at++;
            continue;
        }
        static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        char letter = at[1];
        at += 2;
        if (letter != 'u') {
            const char *found = letter ? strchr(letters, letter) : NULL;
            if (!found) return false;
            *into++ = meant[found - letters];
            continue;
        }
        uint32_t point, low;
        if (!stockade__hex4(at, end, &point)) return false;
        at += 4;
        if (point >= 0xd800 && point < 0xe000) {
            bool pair = point < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u' &&
                        stockade__hex4(at + 2, end, &low);
            if (!pair || low < 0xdc00 || low > 0xdfff) return false;
            point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
            at += 6;
        }
        if (point < 0x80) *into++ = (char)point;
        else {
            int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
            static const unsigned char marks[] = {0, 0xc0, 0xe0, 0xf0};
            *into++ = (char)(marks[more] | point >> 6 * more);
            while (more--) *into++ = (char)(0x80 | (point >> 6 * more & 63));
        }
    }
    text->length = (size_t)(into - text->bytes);
    return true;
}

/* Bytes from a text in base64. */
static inline bool stockade_json_bytes(stockade_json value, stockade_text *bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    stockade_text text;
    if (!stockade_json_text(value, &text) || text.length % 4) return false;
    char *into = (char *)text.bytes; /* in place: it gets shorter */
    for (size_t i = 0; i < text.length; i += 4) {
        uint32_t group = 0;
        int padding = 0;
        for (int j = 0; j < 4; j++) {
            char c = text.bytes[i + j];
            const char *found = c ? strchr(digits, c) : NULL;
            if (c == '=' && j > 1 && i + 4 == text.length) padding++;
            else if (!found || padding) return false;
            group = group << 6 | (found ? (uint32_t)(found - digits) : 0);
        }
        if ((padding == 1 && (group & 0xff)) || (padding == 2 && (group & 0xffff))) return false;
        for (int j = 0; j < 3 - padding; j++) *into++ = (char)(group >> (16 - 8 * j));
    }
    *bytes = (stockade_text){text.bytes, (size_t)(into - text.bytes)};
    return true;
}

/* Steps through a list or an object: *at begins as NULL, `name` is NULL for a list. Ends with false. */
static inline bool stockade_json_next(stockade_json whole, const char **at, stockade_json *name,
                                      stockade_json *value) {
    if (*whole.at != (name ? '{' : '[')) return false;
    const char *next = stockade__space(*at ? *at : whole.at + 1, whole.end);
    if (*next == ',') next = stockade__space(next + 1, whole.end);
    if (*next == ']' || *next == '}') return false;
    if (name) {
        *name = (stockade_json){next, stockade__text_end(next, whole.end)};
        next = stockade__space(stockade__space(name->end, whole.end) + 1, whole.end);
    }
    *value = (stockade_json){next, stockade__value_end(next, whole.end, STOCKADE_DEPTH_MAX)};
    *at = value->end;
    return true;
}

static inline bool stockade__is(stockade_json text, const char *wanted) {
    stockade_text found;
    if (!stockade_json_text(text, &found)) return false;
    return found.length == strlen(wanted) && !memcmp(found.bytes, wanted, found.length);
}

/* The member `wanted` of an object. */
static inline bool stockade_json_member(stockade_json object, const char *wanted, stockade_json *value) {
    const char *at = NULL;
    stockade_json name;
    while (stockade_json_next(object, &at, &name, value))
        if (stockade__is(name, wanted)) return true;
    return false;
}

#endif
