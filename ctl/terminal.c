/* Talking with people: messages, questions, files they name. */
#include "ctl/ctl.h"
#include "proto/wire/encode.h"

#include "proto/wire/message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_MAX 1024

/* Set once, while the options are read. */
static bool tells_json;

void mt_ctl_tell_json(void)
{
	tells_json = true;
}

static const char *code_of(int status)
{
	switch (status) {
	case CTL_USAGE: return "usage";
	case CTL_UNREACHABLE: return "unreachable";
	default: return "failed";
	}
}

int mt_ctl_fail(int status, const char *format, ...)
{
	char message[MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(message, sizeof(message), format, args); /* for people: cut when too long */
	va_end(args);
	if (tells_json) {
		char *line = mt_message_format_error(code_of(status), message, "");

		if (line != NULL) {
			fputs(line, stdout);
			free(line);
		}
	}
	fprintf(stderr, "mytunnelctl: %s\n", message);
	return status;
}

bool mt_ctl_confirm(const struct mt_ctl *ctl, const char *question)
{
	char answer[16];

	if (ctl->yes) {
		return true;
	}
	if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) {
		(void)mt_ctl_fail(
			0, "%s Nothing was done: add --yes to do it without a terminal", question);
		return false;
	}
	fprintf(stderr, "%s [y/N] ", question);
	if (fgets(answer, sizeof(answer), stdin) != NULL &&
		(answer[0] == 'y' || answer[0] == 'Y')) {
		return true;
	}
	(void)mt_ctl_fail(0, "nothing was done");
	return false;
}

static char *read_all(FILE *in, size_t *len)
{
	char *text = malloc(CTL_FILE_MAX + 1);

	if (text == NULL) {
		return NULL;
	}
	*len = fread(text, 1, CTL_FILE_MAX + 1, in);
	if (ferror(in) != 0 || *len > CTL_FILE_MAX) {
		errno = ferror(in) != 0 ? errno : EFBIG;
		mt_wipe(text, CTL_FILE_MAX + 1);
		free(text);
		return NULL;
	}
	text[*len] = '\0';
	return text;
}

char *mt_ctl_read_file(const char *path, size_t *len)
{
	bool standard = strcmp(path, "-") == 0;
	FILE *in = standard ? stdin : fopen(path, "re");
	size_t n = 0;
	char *text = NULL;

	if (in != NULL) {
		/* No copy of a key in the stream's buffer. */
		(void)setvbuf(
			in, NULL, _IONBF, 0); /* a failure leaves the buffer, which is no error */
		text = read_all(in, &n);
	}
	if (text == NULL) {
		(void)mt_ctl_fail(0, "cannot read %s: %s", path, mt_strerror(-errno));
	} else if (memchr(text, '\0', n) != NULL) {
		(void)mt_ctl_fail(0, "%s is not a text file", path);
		free(text);
		text = NULL;
	}
	if (in != NULL && !standard) {
		(void)fclose(in); /* it was only read */
	}
	if (text != NULL && len != NULL) {
		*len = n;
	}
	return text;
}
