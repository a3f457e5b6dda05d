#include "proto/wire/message.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16 /* of a request: the parser behind is recursive */

/* Counts brackets outside strings. Says nothing about texts that are no JSON at all. */
static bool is_too_deep(const char *line, size_t len)
{
	bool in_string = false;
	unsigned depth = 0;

	for (size_t i = 0; i < len; i++) {
		char c = line[i];

		if (in_string) {
			if (c == '\\') {
				i++;
			} else if (c == '"') {
				in_string = false;
			}
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > DEPTH_MAX) {
				return true;
			}
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return false;
}

static int refuse(char *why, size_t why_cap, int err, const char *what)
{
	(void)snprintf(why, why_cap, "%s", what); /* cut only by the caller's own cap */
	return err;
}

int mt_message_parse_request(json_t **root, const char **verb, json_t **args, const char *line,
	size_t len, char *why, size_t why_cap)
{
	json_t *request = NULL, *found = NULL, *empty = NULL;
	json_error_t error;
	const char *name = NULL;
	int err = MT_E_MALFORMED;

	if (len > MT_MESSAGE_MAX) {
		return refuse(why, why_cap, MT_E_TOO_LONG, "the request is too long");
	}
	if (is_too_deep(line, len)) {
		return refuse(why, why_cap, MT_E_MALFORMED, "the request is nested too deeply");
	}
	request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	if (request == NULL) {
		(void)snprintf(why, why_cap, "the request is no JSON object: %s (byte %d)",
			error.text, error.position); /* as above */
		goto out;
	}
	name = json_string_value(json_object_get(request, "verb"));
	if (name == NULL || name[0] == '\0') {
		(void)refuse(why, why_cap, err, "the request has no verb"); /* err is set */
		goto out;
	}
	found = json_object_get(request, "args");
	if (found == NULL) {
		empty = json_object();
		if (json_object_set_new(request, "args", empty) < 0) {
			(void)refuse(why, why_cap, err, "no memory for the request"); /* as above */
			goto out;
		}
		found = empty;
	}
	if (!json_is_object(found)) {
		(void)refuse(why, why_cap, err, "args is no object"); /* as above */
		goto out;
	}
	*root = request;
	*verb = name;
	*args = found;
	request = NULL;
	err = 0;
out:
	json_decref(request);
	return err;
}

/* The text as JSON; what is not UTF-8 in it becomes '?', so that a message arrives in any case. */
static json_t *make_text(const char *text)
{
	json_t *value = json_string(text);
	char *copy = NULL;

	if (value != NULL) {
		return value;
	}
	copy = strdup(text);
	if (copy == NULL) {
		return NULL;
	}
	for (char *c = copy; *c != '\0'; c++) {
		if ((unsigned char)*c >= 0x80) {
			*c = '?';
		}
	}
	value = json_string(copy);
	free(copy);
	return value;
}

/* Takes `root`, which may be NULL. Written in two passes because the line is for free(), whatever
 * allocator the JSON library was given.
 */
static char *format_line(json_t *root)
{
	size_t len = 0;
	char *line = NULL;

	if (root == NULL) {
		return NULL;
	}
	len = json_dumpb(root, NULL, 0, JSON_COMPACT);
	if (len > 0) {
		line = malloc(len + 2);
	}
	if (line != NULL) {
		if (json_dumpb(root, line, len, JSON_COMPACT) == len) {
			line[len] = '\n';
			line[len + 1] = '\0';
		} else {
			free(line);
			line = NULL;
		}
	}
	json_decref(root);
	return line;
}

/* Takes `value`. Drops `root` and returns NULL on failure, so that calls chain. */
static json_t *with(json_t *root, const char *key, json_t *value)
{
	if (root == NULL || value == NULL) {
		json_decref(value);
		json_decref(root);
		return NULL;
	}
	if (json_object_set_new(root, key, value) < 0) {
		json_decref(root);
		return NULL;
	}
	return root;
}

char *mt_message_format_request(const char *verb, json_t *args)
{
	json_t *root = with(json_object(), "verb", make_text(verb));

	if (args != NULL) {
		root = with(root, "args", args);
	}
	return format_line(root);
}

char *mt_message_format_result(json_t *result)
{
	json_t *root = with(json_object(), "ok", json_true());

	root = with(root, "schema", json_integer(MT_MESSAGE_SCHEMA));
	return format_line(with(root, "result", result));
}

char *mt_message_format_error(const char *code, const char *message, const char *next)
{
	json_t *error = with(json_object(), "code", make_text(code));
	json_t *root = with(json_object(), "ok", json_false());

	error = with(error, "message", make_text(message));
	error = with(error, "next", make_text(next != NULL ? next : ""));
	root = with(root, "schema", json_integer(MT_MESSAGE_SCHEMA));
	return format_line(with(root, "error", error));
}

int mt_message_parse_answer(
	json_t **root, json_t **result, json_t **error, const char *line, size_t len)
{
	json_t *answer = NULL, *ok = NULL, *found = NULL;
	int err = MT_E_MALFORMED;

	if (len > MT_MESSAGE_ANSWER_MAX) {
		return MT_E_TOO_LONG;
	}
	answer = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	ok = json_object_get(answer, "ok");
	if (json_is_true(ok)) {
		found = json_object_get(answer, "result");
		if (found == NULL) {
			goto out;
		}
		*result = found;
		err = 0;
	} else if (json_is_false(ok)) {
		found = json_object_get(answer, "error");
		if (!json_is_string(json_object_get(found, "code")) ||
			!json_is_string(json_object_get(found, "message"))) {
			goto out;
		}
		*error = found;
		err = MT_E_DENIED;
	} else {
		goto out;
	}
	*root = answer;
	answer = NULL;
out:
	json_decref(answer);
	return err;
}
