#include "ctl/ctl.h"
#include "ctl/host_checks.h"
#include "proto/wire/verdict.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_AT 22 /* behind the verdict and the name */

static const char *color_of(const char *verdict)
{
	if (strcmp(verdict, "ok") == 0) {
		return "\033[32m";
	}
	if (strcmp(verdict, "warn") == 0) {
		return "\033[33m";
	}
	return strcmp(verdict, "fail") == 0 ? "\033[31m" : "";
}

/* The terminal's width, 0 when the output is none. */
static size_t columns(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* A text behind the first TEXT_AT columns, broken between words where the line ends. */
static void print_text(const char *text)
{
	size_t width = columns();
	size_t room = width > 2 * TEXT_AT ? width - TEXT_AT : SIZE_MAX;

	while (strlen(text) > room) {
		size_t n = room;

		while (n > 0 && text[n] != ' ') {
			n--;
		}
		if (n == 0) {
			break; /* one long word: the terminal breaks it */
		}
		printf("%.*s\n%*s", (int)n, text, TEXT_AT, "");
		text += n + 1;
	}
	printf("%s\n", text);
}

static void print_check(const struct mt_ctl *ctl, const json_t *row)
{
	const char *verdict = mt_ctl_text(row, "verdict");
	const char *next = mt_ctl_text(row, "next");
	const char *color = ctl->color ? color_of(verdict) : "";

	printf("%s%-4s%s  %-14s  ", color, verdict, *color != '\0' ? "\033[0m" : "",
		mt_ctl_text(row, "check"));
	print_text(mt_ctl_text(row, "text"));
	if (*next != '\0') {
		printf("      %-14s  run: %s\n", "", next);
	}
}

static size_t count(const json_t *list, const char *verdict)
{
	size_t n = 0;
	size_t i;
	json_t *row;

	json_array_foreach(list, i, row)
	{
		n += strcmp(mt_ctl_text(row, "verdict"), verdict) == 0;
	}
	return n;
}

/* Why the daemon did not answer, as far as it can be seen from here. */
static void explain_silence(const struct mt_ctl *ctl, json_t *list)
{
	struct stat st;

	if (stat(ctl->socket_path, &st) != 0 && errno == EACCES) {
		mt_verdict_add(list, "daemon", "fail", "sudo mytunnelctl doctor",
			"its socket %s may not be seen by this user", ctl->socket_path);
	} else if (lstat(ctl->socket_path, &st) != 0) {
		/* It may have ended because its state cannot be used: only the log knows. */
		mt_verdict_add(list, "daemon", "fail",
			"sudo systemctl start mytunnel; journalctl -u mytunnel -n 20 says why not",
			"it does not run, or has another runtime folder: there is no %s",
			ctl->socket_path);
	} else if (access(ctl->socket_path, W_OK) != 0) {
		mt_verdict_add(list, "daemon", "fail", "sudo mytunnelctl doctor",
			"its socket %s may not be used by this user", ctl->socket_path);
	} else {
		mt_verdict_add(list, "daemon", "fail",
			"journalctl -u mytunnel -n 50; sudo systemctl restart mytunnel",
			"nobody answers at %s", ctl->socket_path);
	}
}

static int print_all(const struct mt_ctl *ctl, json_t *list)
{
	size_t fails = count(list, "fail");
	size_t warns = count(list, "warn");
	size_t i;
	json_t *row;

	if (ctl->json) {
		json_t *out = json_pack("{s:O, s:I, s:I}", "checks", list, "failures",
			(json_int_t)fails, "warnings", (json_int_t)warns);
		int status = mt_ctl_print_json(out);

		json_decref(out);
		return status;
	}
	json_array_foreach(list, i, row)
	{
		print_check(ctl, row);
	}
	printf("\n%zu checks, %zu to mend, %zu to look at\n", json_array_size(list), fails, warns);
	return CTL_OK;
}

int mt_ctl_doctor(const struct mt_ctl *ctl, int argc, char **argv)
{
	json_t *list = json_array();
	json_t *root = NULL;
	json_t *result = NULL;
	struct mt_ctl plain = *ctl;
	int unreachable;
	int status;

	(void)argc;
	(void)argv;
	plain.json = false; /* an error becomes one of the lines */
	unreachable = mt_ctl_call(&plain, "doctor", NULL, &root, &result);
	if (unreachable == 0) {
		json_t *checks = json_object_get(result, "checks");

		mt_verdict_add(list, "daemon", "ok", "", "it answers at %s", ctl->socket_path);
		/* Without memory its lines are missing, as their count shows. */
		(void)json_array_extend(list, checks);
		json_decref(root);
	} else if (unreachable == CTL_FAILED) {
		mt_verdict_add(list, "daemon", "fail", "sudo mytunnelctl doctor",
			"it answers at %s, but not to this user", ctl->socket_path);
	} else {
		explain_silence(ctl, list);
	}
	mt_host_checks(list, MT_HOST_SYS);
	status = print_all(ctl, list);
	if (status == CTL_OK) {
		status = unreachable != 0           ? unreachable
			 : count(list, "fail") != 0 ? CTL_FAILED
						    : CTL_OK;
	}
	json_decref(list);
	return status;
}
