/* mytunneld: the server. */
#include "daemon/appliance.h"
#include "daemon/control.h"
#include "daemon/log.h"
#include "daemon/supervise.h"
#include "proto/wire/err.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* The leak detector looks at the process by ptrace, which an undumpable process refuses. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#define EXIT_USAGE  2
#define EXIT_STATE  78 /* EX_CONFIG: trying again is pointless */
#define PRESETS_MAX 64

struct options {
	const char *state_dir;
	const char *runtime_dir;
	struct mt_preset presets[PRESETS_MAX];
	size_t preset_count;
};

static const char help[] =
	"Usage: mytunneld [--state-dir DIR] [--runtime-dir DIR] [--set KEY=VALUE]...\n"
	"\n"
	"The MyTunnel server. It runs in the foreground and keeps everything in one database;\n"
	"mytunnelctl changes settings while it runs.\n"
	"\n"
	"  --state-dir DIR    database and keys ($STATE_DIRECTORY, else /var/lib/mytunnel)\n"
	"  --runtime-dir DIR  control socket ($RUNTIME_DIRECTORY, else /run/mytunnel)\n"
	"  --set KEY=VALUE    write a setting before the start; may be repeated, all or none\n"
	"  --help             this text\n"
	"  --version          the version\n"
	"\n"
	"Examples:\n"
	"  mytunneld\n"
	"  mytunneld --state-dir ./state --runtime-dir ./run --set server.bind_addr=127.0.0.1:0 "
	"\\\n"
	"            --set metrics.bind_addr=127.0.0.1:0 --set access.allow_private=on\n"
	"\n"
	"Exit status: 0 stopped by a signal, 1 failed, 2 usage, 78 the state cannot be used.\n";

static int usage(const char *what, const char *detail)
{
	fprintf(stderr, "mytunneld: %s%s\nTry 'mytunneld --help'.\n", what, detail);
	return EXIT_USAGE;
}

/* "KEY=VALUE", cut in place: arguments are the process' own memory. */
static int add_preset(struct options *o, char *text)
{
	char *equals = strchr(text, '=');

	if (equals == NULL) {
		return usage("--set takes KEY=VALUE, not ", text);
	}
	if (o->preset_count == PRESETS_MAX) {
		return usage("too many --set", "");
	}
	*equals = '\0';
	o->presets[o->preset_count++] = (struct mt_preset){text, equals + 1};
	return 0;
}

/* -1: go on; otherwise the exit status. */
static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"state-dir", required_argument, NULL, 's'},
		{"runtime-dir", required_argument, NULL, 'r'},
		{"set", required_argument, NULL, 'S'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	const char *state = getenv("STATE_DIRECTORY");
	const char *runtime = getenv("RUNTIME_DIRECTORY");
	int c;

	o->state_dir = state != NULL && *state != '\0' ? state : "/var/lib/mytunnel";
	o->runtime_dir = runtime != NULL && *runtime != '\0' ? runtime : "/run/mytunnel";
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 's': o->state_dir = optarg; break;
		case 'r': o->runtime_dir = optarg; break;
		case 'S':
			if (add_preset(o, optarg) != 0) {
				return EXIT_USAGE;
			}
			break;
		case 'h': fputs(help, stdout); return 0;
		case 'V': puts("mytunneld " MT_VERSION); return 0;
		default: fputs("Try 'mytunneld --help'.\n", stderr); return EXIT_USAGE;
		}
	}
	return optind < argc ? usage("unexpected argument ", argv[optind]) : -1;
}

static void prepare_process(void)
{
	struct rlimit files;

	/* Broken pipes are told by the calls that meet them. */
	(void)signal(SIGPIPE, SIG_IGN); /* fails only for bad numbers */
	(void)signal(SIGXFSZ, SIG_IGN); /* so is a limit on the size of files */
#ifndef SANITIZED
	/* Keys live in this process: no core files, no ptrace by others of the same user. */
	(void)prctl(PR_SET_DUMPABLE, 0); /* cannot fail with this value */
#endif
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
			mt_log(MT_LOG_WARN, "file_limit_not_raised",
				MT_LOG_TEXT("error", mt_strerror(-errno)));
		}
	}
	/* jansson picks the seed of its hash tables once; do it while there is one thread. */
	json_object_seed(0);
}

static int exit_status(int err)
{
	switch (err) {
	case MT_E_RANGE: return EXIT_USAGE; /* a preset does not fit the other settings */
	case MT_E_BUSY:
	case MT_E_STORE:
	case -ENOMEM: return EXIT_FAILURE; /* may pass */
	default: return EXIT_STATE;
	}
}

static int run(uv_loop_t *loop, const struct options *o)
{
	struct mt_appliance *appliance = NULL;
	struct mt_control *control = NULL;
	struct mt_supervisor supervisor;
	char why[MT_WHY_MAX] = "";
	int rv;

	if (mkdir(o->state_dir, 0700) != 0 && errno != EEXIST) {
		fprintf(stderr,
			"mytunneld: cannot make the state folder %s: %s; run it as root, or name "
			"another folder with --state-dir\n",
			o->state_dir, mt_strerror(-errno));
		return EXIT_STATE;
	}
	rv = mt_appliance_new(
		&appliance, loop, o->state_dir, o->presets, o->preset_count, why, sizeof(why));
	if (rv != 0) {
		fprintf(stderr, "mytunneld: %s\n", why);
		return exit_status(rv);
	}
	rv = mt_control_open(&control, loop, o->runtime_dir, appliance, why, sizeof(why));
	if (rv != 0) {
		fprintf(stderr, "mytunneld: %s\n", why);
		mt_appliance_stop(appliance);
	} else {
		mt_appliance_start(appliance);
		rv = mt_supervisor_start(&supervisor, loop, appliance, control);
		if (rv != 0) {
			fprintf(stderr, "mytunneld: cannot take signals: %s\n", mt_strerror(rv));
			mt_control_close(control);
			mt_appliance_stop(appliance);
		}
	}
	/* After a failure only the closing of what was open is left to do. */
	(void)uv_run(loop,
		rv == 0 ? UV_RUN_DEFAULT : UV_RUN_NOWAIT); /* returns when no handle is left */
	mt_control_free(control);
	mt_appliance_free(appliance);
	return rv == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static struct options options; /* static: as large as a page */
	uv_loop_t loop;
	char why[MT_WHY_MAX];
	int status = parse_options(&options, argc, argv);
	int rv;

	if (status >= 0) {
		return status;
	}
	if (mt_presets_check(options.presets, options.preset_count, why, sizeof(why)) != 0) {
		return usage(why, "");
	}
	prepare_process();
	rv = uv_loop_init(&loop);
	if (rv != 0) {
		fprintf(stderr, "mytunneld: the event loop: %s\n", mt_strerror(rv));
		return EXIT_FAILURE;
	}
	rv = mt_log_start();
	if (rv != 0) {
		mt_log(MT_LOG_WARN, "log_without_queue", MT_LOG_TEXT("error", mt_strerror(rv)));
	}
	mt_log(MT_LOG_INFO, "starting", MT_LOG_TEXT("version", MT_VERSION),
		MT_LOG_TEXT("state", options.state_dir));
	status = run(&loop, &options);
	(void)uv_loop_close(&loop); /* nothing is left in it but after failures at start */
	mt_log_stop();
	return status;
}
