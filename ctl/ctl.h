/* mytunnelctl: what its files share. One process, one request. */
#pragma once

#include "proto/wire/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define CTL_OK          0
#define CTL_FAILED      1 /* refused or failed: the message says what stayed as it was */
#define CTL_USAGE       2
#define CTL_UNREACHABLE 3

#define CTL_DEFAULT_SOCKET "/run/mytunnel/control.sock"
#define CTL_FILE_MAX       (100 * 1024) /* of a certificate or key file */

struct mt_ctl {
	const char *socket_path;
	bool json;
	bool yes;
	bool color; /* standard output is a terminal and NO_COLOR is not set */
};

struct mt_ctl_verb {
	const char *name;     /* words of the command line: "client add" */
	const char *args;     /* as the help shows them */
	const char *help;     /* one line */
	const char *examples; /* indented lines */
	int min_args;
	int max_args; /* -1: any number */
	/* Gets the arguments behind the verb; returns an exit status. */
	int (*run)(const struct mt_ctl *ctl, int argc, char **argv);
};

/* All verbs; `*count` of them. */
const struct mt_ctl_verb *mt_ctl_verbs(size_t *count);

/* From now on failures are told as JSON on standard output too. */
void mt_ctl_tell_json(void);
/* Prints "mytunnelctl: ..." on standard error and returns `status`. */
int mt_ctl_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Asks before something destructive: true on --yes or a "y" on the terminal; otherwise says why
 * not. */
bool mt_ctl_confirm(const struct mt_ctl *ctl, const char *question);
/* A file's contents as a string for free() ("-" is standard input); NULL after telling why not.
 * `*len` may be NULL. */
char *mt_ctl_read_file(const char *path, size_t *len);

/* Sends one request (takes `args`, may be NULL) and waits for its answer. 0 and `*root` (for
 * json_decref) with the borrowed
 * `*result`; otherwise an exit status, and the reason has been told on standard error (with --json
 * also as JSON on standard output).
 */
int mt_ctl_call(const struct mt_ctl *ctl, const char *verb, json_t *args, json_t **root,
	json_t **result) MT_MUST_CHECK;
/* Prints an answer's result as JSON with "schema". Returns an exit status. */
int mt_ctl_print_json(const json_t *result);
/* Both in one, for verbs whose answer people read through `print`; with --json the result is
 * printed as it is. `print` may be NULL: nothing is said.
 */
int mt_ctl_ask(const struct mt_ctl *ctl, const char *verb, json_t *args,
	int (*print)(const struct mt_ctl *ctl, const json_t *result));

/* The string at `key` of an object; "" where there is none. Borrowed. */
const char *mt_ctl_text(const json_t *object, const char *key);
/* Prints the strings of `result`'s list "warnings" on standard error. */
void mt_ctl_print_warnings(const json_t *result);

/* ctl/verb_*.c */
int mt_ctl_status(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_stats(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_version(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_connections(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_events(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_kick(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_drain(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_get(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_set(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_settings_confirm(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_reset(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_describe(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_add(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_show(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_set(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_enable(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_disable(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_kick(const struct mt_ctl *ctl, int argc, char **argv);
/* Traffic per client and in total, those with the most first. */
int mt_ctl_client_stats(const struct mt_ctl *ctl);
/* Prints the "client" of an answer, all of it. */
int mt_ctl_print_client(const struct mt_ctl *ctl, const json_t *result);
int mt_ctl_client_list(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_revoke(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_client_remove(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_access_list(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_access_add(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_access_remove(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_access_test(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_cert_show(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_cert_import(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_token_create(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_token_remove(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_cert_renew(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_top(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_doctor(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_audit(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_backup(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_trace_start(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_trace_stop(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_trace_list(const struct mt_ctl *ctl, int argc, char **argv);
int mt_ctl_restore(const struct mt_ctl *ctl, int argc, char **argv);
