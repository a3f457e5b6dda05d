/* Messages of the control socket: one JSON object a line, both ways.
 *
 * Request: {"verb":"set","args":{...}}
 * Answer:  {"ok":true,"schema":1,"result":{...}} or
 *          {"ok":false,"schema":1,"error":{"code":"...","message":"...","next":"..."}}
 * `message` says what failed and what stayed as it was, `next` what to run next (may be empty).
 */
#pragma once

#include "proto/wire/err.h"

#include <jansson.h>
#include <stddef.h>

#define MT_MESSAGE_MAX ((size_t)256 * 1024) /* a request line */
#define MT_MESSAGE_ANSWER_MAX                                                                      \
	((size_t)64 * 1024 * 1024) /* an answer line, as far as mytunnelctl reads */
#define MT_MESSAGE_SCHEMA 1

/* Reads a request line (without its newline). On success `*verb` borrows from `*root`, `*args` too
 * (an empty object when absent); the caller drops `*root` with json_decref. MT_E_MALFORMED (not
 * JSON, not UTF-8, no verb, duplicate keys, deeper than 16) with a phrase in `why`.
 */
int mt_message_parse_request(json_t **root, const char **verb, json_t **args, const char *line,
	size_t len, char *why, size_t why_cap) MT_MUST_CHECK;
/* Takes `args` (may be NULL). Returns a line with its newline for free(), NULL without memory. */
char *mt_message_format_request(const char *verb, json_t *args);
/* Takes `result`; NULL counts as no memory. All three return NULL without memory. */
char *mt_message_format_result(json_t *result);
char *mt_message_format_error(const char *code, const char *message, const char *next);
/* Reads an answer: 0 and `*result` borrowed from `*root`; or MT_E_DENIED with `*error` set to the
 * borrowed error object; or MT_E_MALFORMED.
 */
int mt_message_parse_answer(
	json_t **root, json_t **result, json_t **error, const char *line, size_t len) MT_MUST_CHECK;
