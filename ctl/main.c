/* mytunnelctl: asks and changes a running mytunneld. */
#include "ctl/ctl.h"
#include "ctl/suggest.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELP_COLUMN 30 /* of a verb and its arguments */

static void print_help(FILE *out)
{
	size_t count;
	const struct mt_ctl_verb *verbs = mt_ctl_verbs(&count);

	fputs("Usage: mytunnelctl [--socket PATH] [--json] [--yes] [VERB [ARGUMENT]...]\n"
	      "\n"
	      "Asks and changes a running mytunneld. Changes take effect at once.\n"
	      "\n",
		out);
	for (size_t i = 0; i < count; i++) {
		char left[256];
		int len = snprintf(left, sizeof(left), "%s %s", verbs[i].name,
			verbs[i].args); /* the table's texts fit */

		if (len > HELP_COLUMN) {
			fprintf(out, "  %s\n%*s%s\n", left, HELP_COLUMN + 3, "", verbs[i].help);
		} else {
			fprintf(out, "  %-*s %s\n", HELP_COLUMN, left, verbs[i].help);
		}
	}
	fputs("\n"
	      "  --socket PATH  the daemon's control socket ($MYTUNNEL_SOCKET, "
	      "else " CTL_DEFAULT_SOCKET ")\n"
	      "  --json         answers for programs\n"
	      "  --yes          do not ask before destructive verbs\n"
	      "  --help         this text; VERB --help tells more about a verb\n"
	      "  --version      the version of this program\n"
	      "\n"
	      "Examples:\n"
	      "  mytunnelctl\n"
	      "  mytunnelctl client add laptop > laptop.uri\n"
	      "  mytunnelctl set quic.max_connections 100000\n"
	      "\n"
	      "Exit status: 0 done, 1 refused or failed, 2 usage, 3 the daemon cannot be "
	      "reached.\n",
		out);
}

static void print_verb_help(const struct mt_ctl_verb *v)
{
	printf("Usage: mytunnelctl %s%s%s\n\n%s.\n\nExamples:\n%s", v->name,
		*v->args != '\0' ? " " : "", v->args, v->help, v->examples);
}

/* The verb that the words begin with; `*used` is how many words it takes. */
static const struct mt_ctl_verb *find_verb(int argc, char **argv, int *used)
{
	size_t count;
	const struct mt_ctl_verb *verbs = mt_ctl_verbs(&count);

	for (size_t i = 0; i < count; i++) {
		const char *space = strchr(verbs[i].name, ' ');
		size_t first =
			space != NULL ? (size_t)(space - verbs[i].name) : strlen(verbs[i].name);

		if (strlen(argv[0]) != first || memcmp(argv[0], verbs[i].name, first) != 0) {
			continue;
		}
		if (space == NULL || (argc > 1 && strcmp(argv[1], space + 1) == 0)) {
			*used = space == NULL ? 1 : 2;
			return &verbs[i];
		}
	}
	return NULL;
}

static int unknown_verb(int argc, char **argv)
{
	size_t count;
	const struct mt_ctl_verb *verbs = mt_ctl_verbs(&count);
	const char *nearest = NULL;
	size_t best = (size_t)-1;
	char typed[128];
	bool group = false;
	bool asked;

	for (size_t i = 0; i < count; i++) {
		bool two = strchr(verbs[i].name, ' ') != NULL;
		size_t first = strcspn(verbs[i].name, " ");
		size_t distance;

		group = group || (two && strlen(argv[0]) == first &&
					 memcmp(verbs[i].name, argv[0], first) == 0);
		if (snprintf(typed, sizeof(typed), "%s%s%s", argv[0], two && argc > 1 ? " " : "",
			    two && argc > 1 ? argv[1] : "") >= (int)sizeof(typed)) {
			continue;
		}
		distance = mt_suggest_distance(typed, verbs[i].name);
		if (distance < best && mt_suggest_is_near(typed, verbs[i].name)) {
			nearest = verbs[i].name;
			best = distance;
		}
	}
	asked = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
	if (group && (argc == 1 || asked)) {
		FILE *out = asked ? stdout : stderr;

		fprintf(out, "mytunnelctl: '%s' needs one of:", argv[0]);
		for (size_t i = 0; i < count; i++) {
			if (strncmp(verbs[i].name, argv[0], strlen(argv[0])) == 0 &&
				verbs[i].name[strlen(argv[0])] == ' ') {
				fprintf(out, " %s", verbs[i].name + strlen(argv[0]) + 1);
			}
		}
		fputc('\n', out);
		return asked ? CTL_OK : CTL_USAGE;
	}
	return mt_ctl_fail(CTL_USAGE, "there is no verb '%s%s%s'%s%s%s; see mytunnelctl --help",
		argv[0], group && argc > 1 ? " " : "", group && argc > 1 ? argv[1] : "",
		nearest != NULL ? " (did you mean '" : "", nearest != NULL ? nearest : "",
		nearest != NULL ? "'?)" : "");
}

static int run_verb(const struct mt_ctl *ctl, int argc, char **argv)
{
	static char status_word[] = "status";
	static char *status_argv[] = {status_word, NULL};
	const struct mt_ctl_verb *v;
	int used = 0;

	if (argc == 0) {
		argc = 1;
		argv = status_argv;
	}
	v = find_verb(argc, argv, &used);
	if (v == NULL) {
		return unknown_verb(argc, argv);
	}
	for (int i = used; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			print_verb_help(v);
			return CTL_OK;
		}
	}
	if (argc - used < v->min_args || (v->max_args >= 0 && argc - used > v->max_args)) {
		return mt_ctl_fail(CTL_USAGE, "usage: mytunnelctl %s%s%s", v->name,
			*v->args != '\0' ? " " : "", v->args);
	}
	return v->run(ctl, argc - used, argv + used);
}

/* Options may stand behind the verb too, as people type them; "client add --key FILE" is the verb's
 * own. */
static int take_options(struct mt_ctl *ctl, int *argc, char **argv)
{
	int kept = 0;

	for (int i = 0; i < *argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			while (++i < *argc) {
				argv[kept++] = argv[i];
			}
		} else if (strcmp(argv[i], "--json") == 0) {
			ctl->json = true;
			mt_ctl_tell_json();
		} else if (strcmp(argv[i], "--yes") == 0 || strcmp(argv[i], "-y") == 0) {
			ctl->yes = true;
		} else if (strcmp(argv[i], "--socket") == 0) {
			if (i + 1 == *argc) {
				return mt_ctl_fail(CTL_USAGE, "--socket takes a path");
			}
			ctl->socket_path = argv[++i];
		} else if (strncmp(argv[i], "--socket=", 9) == 0) {
			ctl->socket_path = argv[i] + 9;
		} else {
			argv[kept++] = argv[i];
		}
	}
	*argc = kept;
	return 0;
}

int main(int argc, char **argv)
{
	const char *env = getenv("MYTUNNEL_SOCKET");
	const char *no_color = getenv("NO_COLOR");
	struct mt_ctl ctl = {.socket_path = env != NULL && *env != '\0' ? env : CTL_DEFAULT_SOCKET,
		.color = isatty(STDOUT_FILENO) == 1 && (no_color == NULL || *no_color == '\0')};
	int status;

	argc--;
	argv++;
	status = take_options(&ctl, &argc, argv);
	if (status != 0) {
		return status;
	}
	if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 ||
				strcmp(argv[0], "help") == 0)) {
		print_help(stdout);
		return CTL_OK;
	}
	if (argc > 0 && strcmp(argv[0], "--version") == 0) {
		puts("mytunnelctl " MT_VERSION);
		return CTL_OK;
	}
	if (argc > 0 && argv[0][0] == '-') {
		return mt_ctl_fail(
			CTL_USAGE, "unknown option '%s'; see mytunnelctl --help", argv[0]);
	}
	status = run_verb(&ctl, argc, argv);
	if (fflush(stdout) != 0 && status == CTL_OK) {
		status = mt_ctl_fail(CTL_FAILED, "the output could not be written");
	}
	return status;
}
