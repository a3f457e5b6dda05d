/* links: proto/wire/message.c */
#include "proto/wire/message.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_request(const char *line, size_t len)
{
	json_t *root = NULL, *args = NULL, *root_again = NULL, *args_again = NULL;
	const char *verb = NULL, *verb_again = NULL;
	char why[160] = "", *written = NULL;
	int err = mt_message_parse_request(&root, &verb, &args, line, len, why, sizeof(why));

	if (err != 0) {
		assert(root == NULL && verb == NULL && args == NULL && why[0] != '\0');
		return;
	}
	assert(why[0] == '\0' && verb[0] != '\0' && json_is_object(args));
	written = mt_message_format_request(verb, json_incref(args));
	assert(written != NULL && strchr(written, '\n') == written + strlen(written) - 1);
	assert(mt_message_parse_request(&root_again, &verb_again, &args_again, written,
		       strlen(written), why, sizeof(why)) == 0);
	assert(strcmp(verb, verb_again) == 0 && json_equal(args, args_again));
	free(written);
	json_decref(root_again);
	json_decref(root);
}

static void check_answer(const char *line, size_t len)
{
	json_t *root = NULL, *result = NULL, *error = NULL;
	int err = mt_message_parse_answer(&root, &result, &error, line, len);

	assert((err == 0) == (result != NULL));
	assert((err == MT_E_DENIED) == (error != NULL));
	assert((root != NULL) == (result != NULL || error != NULL));
	json_decref(root);
}

static void check_error(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *line = NULL;
	json_t *root = NULL, *result = NULL, *error = NULL;

	assert(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	/* Whatever the words, an error reaches its reader. */
	line = mt_message_format_error("code", text, text);
	assert(line != NULL);
	assert(mt_message_parse_answer(&root, &result, &error, line, strlen(line)) == MT_E_DENIED);
	json_decref(root);
	free(line);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_request((const char *)data, size);
	check_answer((const char *)data, size);
	check_error(data, size);
	return 0;
}
