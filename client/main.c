#include "client/cmd.h"
#include "client/say.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const struct mt_verb *const verbs[] = {
	&mt_verb_connect,
	&mt_verb_import,
	&mt_verb_ping,
	&mt_verb_doctor,
	&mt_verb_keygen,
};

#define VERB_COUNT (sizeof(verbs) / sizeof(verbs[0]))

int mt_verb_print_help(const struct mt_verb *verb)
{
	return printf("%s", verb->help) < 0 || fflush(stdout) != 0 ? MT_EXIT_FAILED : MT_EXIT_OK;
}

int mt_verb_usage_error(const struct mt_verb *verb, const char *what)
{
	mt_say("%s: %s; try: mytunnel %s --help", verb->name, what, verb->name);
	return MT_EXIT_USAGE;
}

static int print_help(void)
{
	printf("mytunnel carries TCP and UDP traffic through a MyTunnel server.\n"
	       "\n"
	       "Usage: mytunnel VERB [OPTION]... [ARGUMENT]...\n"
	       "\n");
	for (size_t i = 0; i < VERB_COUNT; i++) {
		printf("  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
	}
	printf("\n"
	       "  --help     this text; after a verb: its options and examples\n"
	       "  --version  the version\n"
	       "\n"
	       "Examples:\n"
	       "  mytunnel import laptop < laptop.uri\n"
	       "  mytunnel connect laptop\n"
	       "  curl --socks5-hostname 127.0.0.1:1080 https://example.com/\n");
	return fflush(stdout) != 0 ? MT_EXIT_FAILED : MT_EXIT_OK;
}

/* How many letters must be changed, added or left out; for words of up to 31 letters. */
static size_t distance(const char *a, const char *b)
{
	size_t row[32];
	size_t la = strlen(a);
	size_t lb = strlen(b);

	if (la > 31 || lb > 31) {
		return 32;
	}
	for (size_t j = 0; j <= lb; j++) {
		row[j] = j;
	}
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);

			diagonal = row[j];
			if (row[j] + 1 < best) {
				best = row[j] + 1;
			}
			if (row[j - 1] + 1 < best) {
				best = row[j - 1] + 1;
			}
			row[j] = best;
		}
	}
	return row[lb];
}

static int unknown_verb(const char *name)
{
	for (size_t i = 0; i < VERB_COUNT; i++) {
		if (distance(name, verbs[i]->name) <= 2) {
			mt_say("there is no verb '%.40s', did you mean '%s'? Try: mytunnel --help",
				name, verbs[i]->name);
			return MT_EXIT_USAGE;
		}
	}
	mt_say("there is no verb '%.40s'; try: mytunnel --help", name);
	return MT_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static char name[] = "mytunnel"; /* which getopt's messages begin with */
	const struct rlimit no_core = {0, 0};

	/* Private keys are in memory: no dumps. If this fails nothing else does. */
	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)signal(SIGPIPE, SIG_IGN); /* a valid signal: cannot fail */
	if (argc < 2) {
		mt_say("a verb is missing; try: mytunnel --help");
		return MT_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		return printf("mytunnel %s\n", MT_VERSION) < 0 || fflush(stdout) != 0
			       ? MT_EXIT_FAILED
			       : MT_EXIT_OK;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		return print_help();
	}
	for (size_t i = 0; i < VERB_COUNT; i++) {
		if (strcmp(argv[1], verbs[i]->name) == 0) {
			argv[1] = name;
			return verbs[i]->run(argc - 1, argv + 1);
		}
	}
	return unknown_verb(argv[1]);
}
