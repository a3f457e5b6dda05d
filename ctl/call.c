#include "ctl/ctl.h"
#include "proto/wire/encode.h"
#include "proto/wire/message.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_TIMEOUT_MS 60000
#define CONNECT_TIMEOUT_S 15
#define FIRST_BUFFER      65536

static int unreachable(const struct mt_ctl *ctl, int err)
{
	const char *advice = "is mytunneld running? systemctl status mytunnel";

	if (err == -EACCES || err == -EPERM) {
		advice = "run it with sudo";
	}
	return mt_ctl_fail(CTL_UNREACHABLE, "cannot reach the daemon at %s: %s (%s)",
		ctl->socket_path, mt_strerror(err), advice);
}

static int open_socket(const struct mt_ctl *ctl, int *fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = CONNECT_TIMEOUT_S};
	size_t len = strlen(ctl->socket_path);
	int s;

	if (len == 0 || len >= sizeof(addr.sun_path)) {
		return mt_ctl_fail(CTL_USAGE, "a socket's path has 1 to %zu bytes: '%s'",
			sizeof(addr.sun_path) - 1, ctl->socket_path);
	}
	memcpy(addr.sun_path, ctl->socket_path, len + 1);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0) {
		return unreachable(ctl, -errno);
	}
	/* A full queue of a daemon that hangs must not hold us for ever; a failure leaves that risk
	 * alone. */
	(void)setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(s, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		int err = -errno;

		(void)close(s); /* nothing was written */
		return unreachable(ctl, err);
	}
	*fd = s;
	return 0;
}

/* A daemon that turns us away answers without reading: a failed write is not yet the end. */
static void send_all(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		ssize_t n = send(fd, text, left, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return;
		}
		text += n;
		left -= (size_t)n;
	}
}

/* Reads up to the newline, which is left out. The line may hold secrets: wiped by the caller. */
static int read_line(const struct mt_ctl *ctl, int fd, char **line, size_t *line_len)
{
	size_t cap = FIRST_BUFFER;
	size_t len = 0;
	char *buf = malloc(cap);
	char *end = NULL;
	int rv = 0;

	while (buf != NULL && end == NULL && rv == 0) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		int found = poll(&ready, 1, ANSWER_TIMEOUT_MS);
		ssize_t n = found > 0 ? recv(fd, buf + len, cap - len, 0) : found;

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (found == 0) {
			rv = mt_ctl_fail(CTL_UNREACHABLE, "the daemon at %s does not answer",
				ctl->socket_path);
		} else if (n <= 0) {
			rv = mt_ctl_fail(CTL_UNREACHABLE,
				"the daemon at %s ended the connection without an answer",
				ctl->socket_path);
		} else {
			end = memchr(buf + len, '\n', (size_t)n);
			len += (size_t)n;
			if (end == NULL && len == cap) {
				char *grown = cap < MT_MESSAGE_ANSWER_MAX ? malloc(cap * 2) : NULL;

				if (grown == NULL) {
					rv = mt_ctl_fail(
						CTL_FAILED, "the daemon's answer is too long");
					break;
				}
				memcpy(grown, buf, len);
				mt_wipe(buf, len);
				free(buf);
				buf = grown;
				cap *= 2;
			}
		}
	}
	if (buf == NULL) {
		return mt_ctl_fail(CTL_FAILED, "out of memory");
	}
	if (rv != 0) {
		mt_wipe(buf, len);
		free(buf);
		return rv;
	}
	*line = buf;
	*line_len = (size_t)(end - buf);
	return 0;
}

static void tell_error(const struct mt_ctl *ctl, const json_t *error, const char *line, size_t len)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *next = json_string_value(json_object_get(error, "next"));

	if (ctl->json) {
		printf("%.*s\n", (int)len, line);
	}
	fprintf(stderr, "mytunnelctl: %s\n", message != NULL ? message : "refused");
	if (next != NULL && *next != '\0') {
		fprintf(stderr, "next: %s\n", next);
	}
}

int mt_ctl_call(
	const struct mt_ctl *ctl, const char *verb, json_t *args, json_t **root, json_t **result)
{
	char *request = mt_message_format_request(verb, args);
	char *line = NULL;
	size_t len = 0;
	json_t *error = NULL;
	int fd = -1;
	int rv;

	if (request == NULL) {
		return mt_ctl_fail(CTL_FAILED, "out of memory");
	}
	rv = open_socket(ctl, &fd);
	if (rv == 0) {
		send_all(fd, request);
		rv = read_line(ctl, fd, &line, &len);
		(void)close(fd); /* what was sent has been answered, or never will be */
	}
	mt_wipe(request, strlen(request));
	free(request);
	if (rv != 0) {
		return rv;
	}
	switch (mt_message_parse_answer(root, result, &error, line, len)) {
	case 0: break;
	case MT_E_DENIED:
		tell_error(ctl, error, line, len);
		json_decref(*root);
		rv = CTL_FAILED;
		break;
	default:
		rv = mt_ctl_fail(CTL_FAILED,
			"the daemon's answer cannot be read; are both programs of one version?");
		break;
	}
	mt_wipe(line, len);
	free(line);
	return rv;
}

int mt_ctl_print_json(const json_t *result)
{
	json_t *out = json_pack("{s:i}", "schema", MT_MESSAGE_SCHEMA);
	int rv = -1;

	if (json_object_update(out, (json_t *)(uintptr_t)result) == 0) {
		rv = json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(out);
	return rv == 0 && fflush(stdout) == 0
		       ? CTL_OK
		       : mt_ctl_fail(CTL_FAILED, "the answer could not be printed");
}

int mt_ctl_ask(const struct mt_ctl *ctl, const char *verb, json_t *args,
	int (*print)(const struct mt_ctl *ctl, const json_t *result))
{
	json_t *root = NULL;
	json_t *result = NULL;
	int rv = mt_ctl_call(ctl, verb, args, &root, &result);

	if (rv != 0) {
		return rv;
	}
	if (ctl->json) {
		rv = mt_ctl_print_json(result);
	} else if (print != NULL) {
		rv = print(ctl, result);
	}
	if (!ctl->json) {
		mt_ctl_print_warnings(result);
	}
	json_decref(root);
	return rv;
}

void mt_ctl_print_warnings(const json_t *result)
{
	const json_t *list = json_object_get(result, "warnings");
	size_t i;
	json_t *text;

	json_array_foreach(list, i, text)
	{
		if (json_is_string(text)) {
			fprintf(stderr, "warning: %s\n", json_string_value(text));
		}
	}
}

const char *mt_ctl_text(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL ? text : "";
}
