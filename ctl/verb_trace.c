/* Traces: this program writes the files, the daemon sends what goes into them. */
#include "ctl/ctl.h"
#include "ctl/table.h"
#include "proto/wire/settings.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX   1000 /* connections of one trace */
#define DEFAULT_MAX (INT64_C(100) << 20)
#define NAME_LEN    16 /* of a connection: hexadecimal digits */
#define FILE_SUFFIX ".sqlog"
#define USAGE_TRACE                                                                                \
	"usage: mytunnelctl trace start CLIENT --qlog DIR [--for TIME] [--max-size SIZE]"

static volatile sig_atomic_t interrupted;

struct trace_file {
	char name[NAME_LEN + sizeof(FILE_SUFFIX)];
	FILE *out; /* NULL: complete */
};

struct trace {
	const char *client;
	const char *dir;
	int64_t for_s; /* 0: until it is stopped */
	int64_t max_bytes;
	int dir_fd;
	json_int_t number;
	struct trace_file files[FILES_MAX];
	unsigned file_count;
	int64_t bytes;
	int64_t records;
	int64_t lost;
	const char *reason; /* why it has ended; NULL: it goes on */
	bool full;          /* nothing more is written */
	bool over;          /* the daemon has sent the last batch, or will send none */
};

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static int take_option(struct trace *t, const char *option, const char *value)
{
	int64_t number = 0;

	if (value == NULL) {
		return mt_ctl_fail(CTL_USAGE, "%s takes a value; %s", option, USAGE_TRACE);
	}
	if (strcmp(option, "--qlog") == 0) {
		t->dir = value;
		return 0;
	}
	if (strcmp(option, "--for") == 0) {
		if (mt_setting_parse_number(MT_SETTING_DURATION, value, strlen(value), &number) !=
				0 ||
			number <= 0) {
			return mt_ctl_fail(CTL_USAGE, "--for takes a time such as 90s or 5m");
		}
		t->for_s = number;
		return 0;
	}
	if (strcmp(option, "--max-size") == 0) {
		if (mt_setting_parse_number(MT_SETTING_SIZE, value, strlen(value), &number) != 0 ||
			number <= 0) {
			return mt_ctl_fail(CTL_USAGE, "--max-size takes a size such as 50Mi");
		}
		t->max_bytes = number;
		return 0;
	}
	return mt_ctl_fail(CTL_USAGE, "unknown option '%s'; %s", option, USAGE_TRACE);
}

static int take_arguments(struct trace *t, int argc, char **argv)
{
	int rv = 0;

	for (int i = 0; i < argc && rv == 0; i++) {
		if (strncmp(argv[i], "--", 2) == 0) {
			rv = take_option(t, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
			i++;
		} else if (t->client == NULL) {
			t->client = argv[i];
		} else {
			rv = mt_ctl_fail(CTL_USAGE, USAGE_TRACE);
		}
	}
	if (rv == 0 && (t->client == NULL || t->dir == NULL)) {
		rv = mt_ctl_fail(CTL_USAGE, USAGE_TRACE);
	}
	return rv;
}

/* The name becomes part of a path. */
static bool is_connection(const char *name)
{
	return strlen(name) == NAME_LEN && strspn(name, "0123456789abcdef") == NAME_LEN;
}

/* A new file for its owner alone. NULL after telling why not. */
static struct trace_file *add_file(struct trace *t, const char *connection)
{
	struct trace_file *f = &t->files[t->file_count];
	int fd;

	/* Both have their lengths: fits. */
	(void)snprintf(f->name, sizeof(f->name), "%s" FILE_SUFFIX, connection);
	fd = openat(t->dir_fd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	f->out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (f->out == NULL) {
		mt_ctl_fail(
			CTL_FAILED, "cannot make %s/%s: %s", t->dir, f->name, mt_strerror(-errno));
		if (fd >= 0) {
			(void)close(fd); /* nothing was written */
		}
		return NULL;
	}
	t->file_count++;
	return f;
}

static struct trace_file *find_file(struct trace *t, const char *connection)
{
	for (unsigned i = t->file_count; i-- > 0;) {
		if (strncmp(t->files[i].name, connection, NAME_LEN) == 0) {
			return &t->files[i];
		}
	}
	return NULL;
}

static int close_file(struct trace *t, struct trace_file *f)
{
	FILE *out = f->out;

	f->out = NULL;
	if (out != NULL && fclose(out) != 0) {
		return mt_ctl_fail(
			CTL_FAILED, "cannot write %s/%s: %s", t->dir, f->name, mt_strerror(-errno));
	}
	return 0;
}

static int write_record(struct trace *t, const json_t *record)
{
	const char *connection = mt_ctl_text(record, "connection");
	const json_t *data = json_object_get(record, "data");
	size_t len = json_string_length(data);
	struct trace_file *f;

	if (!is_connection(connection)) {
		return mt_ctl_fail(CTL_FAILED, "the daemon's answer cannot be read; are both "
					       "programs of one version?");
	}
	f = find_file(t, connection);
	if (len > 0 && f == NULL && t->file_count == FILES_MAX) {
		t->reason = "as many connections as one trace can have";
		t->full = true;
		return 0;
	}
	if (len > 0 && t->bytes + (int64_t)len > t->max_bytes) {
		t->reason = "the files have reached their size (--max-size)";
		t->full = true;
		return 0;
	}
	if (len > 0) {
		f = f != NULL ? f : add_file(t, connection);
		if (f == NULL) {
			return CTL_FAILED;
		}
		if (f->out == NULL || fwrite(json_string_value(data), 1, len, f->out) != len) {
			return mt_ctl_fail(CTL_FAILED, "cannot write %s/%s: %s", t->dir, f->name,
				mt_strerror(f->out == NULL ? MT_E_CLOSED : -errno));
		}
		t->bytes += (int64_t)len;
		t->records++;
	}
	return f != NULL && json_is_true(json_object_get(record, "end")) ? close_file(t, f) : 0;
}

/* One batch; what comes behind a limit is left out. */
static int write_batch(struct trace *t, const json_t *result)
{
	const json_t *records = json_object_get(result, "records");
	int rv = 0;

	if (json_is_true(json_object_get(result, "stopped"))) {
		t->over = true;
		t->reason = t->reason != NULL ? t->reason : "it was stopped";
	}
	t->lost += json_integer_value(json_object_get(result, "lost"));
	for (size_t i = 0; rv == 0 && !t->full && i < json_array_size(records); i++) {
		rv = write_record(t, json_array_get(records, i));
	}
	for (unsigned i = 0; rv == 0 && i < t->file_count; i++) {
		if (t->files[i].out != NULL && fflush(t->files[i].out) != 0) {
			rv = mt_ctl_fail(CTL_FAILED, "cannot write %s/%s: %s", t->dir,
				t->files[i].name, mt_strerror(-errno));
		}
	}
	t->full = t->full || rv != 0;
	return rv;
}

static int64_t monotonic_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	return now.tv_sec;
}

static int read_batch(const struct mt_ctl *ctl, struct trace *t, bool stop)
{
	json_t *root = NULL;
	json_t *result = NULL;
	int rv = mt_ctl_call(ctl, "trace.read",
		json_pack("{s:I, s:b, s:b}", "trace", t->number, "wait", (int)!stop, "stop",
			(int)stop),
		&root, &result);

	if (rv != 0) {
		t->over = true;
		return rv;
	}
	rv = write_batch(t, result);
	json_decref(root);
	return rv;
}

/* Until somebody or something ends it. */
static int follow(const struct mt_ctl *ctl, struct trace *t)
{
	int64_t until = t->for_s > 0 ? monotonic_s() + t->for_s : INT64_MAX;
	int rv = 0;

	while (rv == 0 && t->reason == NULL) {
		rv = read_batch(ctl, t, false);
		if (t->reason == NULL && interrupted) {
			t->reason = "interrupted";
		} else if (t->reason == NULL && monotonic_s() >= until) {
			t->reason = "its time is over (--for)";
		}
	}
	if (!t->over) {
		int last = read_batch(ctl, t, true);

		rv = rv != 0 ? rv : last;
	}
	for (unsigned i = 0; i < t->file_count; i++) {
		int closed = close_file(t, &t->files[i]);

		rv = rv != 0 ? rv : closed;
	}
	return rv;
}

/* A connection's qlog begins with its first packet: those that are open already have none. */
static void tell_open(const struct mt_ctl *ctl, const struct trace *t)
{
	json_t *root = NULL;
	json_t *result = NULL;
	size_t quic = 0;
	size_t tls = 0;
	size_t i;
	json_t *row;

	if (mt_ctl_call(ctl, "connections", json_pack("{s:s}", "client", t->client), &root,
		    &result) != 0) {
		return; /* the reason has been told; the trace runs */
	}
	json_array_foreach(json_object_get(result, "connections"), i, row)
	{
		if (strcmp(mt_ctl_text(row, "transport"), "tls") == 0) {
			tls++;
		} else {
			quic++;
		}
	}
	json_decref(root);
	fprintf(stderr, "tracing new connections of %s into %s; Ctrl-C ends it\n", t->client,
		t->dir);
	if (quic > 0) {
		fprintf(stderr,
			"%zu of its connections are open already and not traced; to have it come "
			"back at once: mytunnelctl client kick %s\n",
			quic, t->client);
	}
	if (tls > 0) {
		fprintf(stderr, "it is connected over TLS: there is no qlog of that\n");
	}
}

static int print_summary(const struct mt_ctl *ctl, const struct trace *t)
{
	char size[MT_NUMBER_TEXT_MAX];

	if (ctl->json) {
		json_t *files = json_array();
		json_t *out;
		int rv;

		for (unsigned i = 0; i < t->file_count; i++) {
			/* What cannot be appended shows below. */
			(void)json_array_append_new(files, json_string(t->files[i].name));
		}
		out = json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:s}", "client", t->client,
			"directory", t->dir, "files", files, "records", (json_int_t)t->records,
			"bytes", (json_int_t)t->bytes, "lost", (json_int_t)t->lost, "reason",
			t->reason);
		rv = mt_ctl_print_json(out);
		json_decref(out);
		return rv;
	}
	printf("%s: %u files, %" PRId64 " records, %s; ended: %s\n", t->dir, t->file_count,
		t->records, mt_format_bytes(size, (uint64_t)t->bytes), t->reason);
	if (t->lost > 0) {
		printf("%" PRId64 " records are missing: there were too many at once\n", t->lost);
	}
	return CTL_OK;
}

static int run_trace(const struct mt_ctl *ctl, struct trace *t)
{
	/* Calls under way go on; a second signal ends the program as ever. */
	struct sigaction action = {
		.sa_handler = on_signal, .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
	json_t *root = NULL;
	json_t *result = NULL;
	int rv = mt_ctl_call(
		ctl, "trace.start", json_pack("{s:s}", "client", t->client), &root, &result);

	if (rv != 0) {
		return rv;
	}
	t->number = json_integer_value(json_object_get(result, "trace"));
	json_decref(root);
	/* Fails only for signals that do not exist. */
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	tell_open(ctl, t);
	rv = follow(ctl, t);
	return rv == 0 ? print_summary(ctl, t) : rv;
}

int mt_ctl_trace_start(const struct mt_ctl *ctl, int argc, char **argv)
{
	struct trace *t = calloc(1, sizeof(*t));
	int rv;

	if (t == NULL) {
		return mt_ctl_fail(CTL_FAILED, "out of memory");
	}
	t->max_bytes = DEFAULT_MAX;
	t->dir_fd = -1;
	rv = take_arguments(t, argc, argv);
	if (rv != 0) {
		goto out;
	}
	assert(t->dir != NULL); /* take_arguments asks for it */
	t->dir_fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir_fd < 0) {
		rv = mt_ctl_fail(CTL_FAILED, "cannot open the folder %s: %s; nothing is traced",
			t->dir, mt_strerror(-errno));
		goto out;
	}
	rv = run_trace(ctl, t);
out:
	if (t->dir_fd >= 0) {
		(void)close(t->dir_fd); /* nothing was written to it */
	}
	free(t);
	return rv;
}

static int print_stopped(const struct mt_ctl *ctl, const json_t *result)
{
	json_int_t count = json_integer_value(json_object_get(result, "stopped"));

	(void)ctl;
	printf("%" JSON_INTEGER_FORMAT " %s stopped; its reader has the rest\n", count,
		count == 1 ? "trace" : "traces");
	return CTL_OK;
}

int mt_ctl_trace_stop(const struct mt_ctl *ctl, int argc, char **argv)
{
	return mt_ctl_ask(ctl, "trace.stop",
		json_pack("{s:s*}", "client", argc > 0 ? argv[0] : NULL), print_stopped);
}

static int print_traces(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"CLIENT", "SINCE", "RECORDS", "BYTES", "LOST"};
	struct mt_table *table = mt_table_new(headings, sizeof(headings) / sizeof(headings[0]));
	char text[MT_NUMBER_TEXT_MAX];
	size_t i;
	json_t *row;
	int rv;

	json_array_foreach(json_object_get(result, "traces"), i, row)
	{
		mt_table_add(table, mt_ctl_text(row, "client"));
		mt_table_add(table, mt_format_time(text, json_integer_value(json_object_get(
								 row, "started_at"))));
		mt_table_addf(table, "%" JSON_INTEGER_FORMAT,
			json_integer_value(json_object_get(row, "records")));
		mt_table_add(table, mt_format_bytes(text, (uint64_t)json_integer_value(
								  json_object_get(row, "bytes"))));
		mt_table_addf(table, "%" JSON_INTEGER_FORMAT,
			json_integer_value(json_object_get(row, "lost")));
	}
	rv = mt_table_print(table, stdout, ctl->color);
	mt_table_free(table);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_trace_list(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc, (void)argv;
	return mt_ctl_ask(ctl, "trace.list", NULL, print_traces);
}
