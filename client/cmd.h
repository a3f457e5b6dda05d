/* The verbs of mytunnel, one file each. `argv[0]` is the verb; the result is the exit status. */
#pragma once

#define MT_EXIT_OK     0
#define MT_EXIT_FAILED 1
#define MT_EXIT_USAGE  2

#define MT_CHOICE_USAGE "--transport is auto, quic or tls"

struct mt_verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
	const char *help; /* usage, options and examples */
};

/* The row of the table, for a verb's own --help and usage errors. */
extern const struct mt_verb mt_verb_connect;
extern const struct mt_verb mt_verb_import;
extern const struct mt_verb mt_verb_ping;
extern const struct mt_verb mt_verb_keygen;
extern const struct mt_verb mt_verb_doctor;

/* Prints the help on stdout, returns MT_EXIT_OK. */
int mt_verb_print_help(const struct mt_verb *verb);
/* "mytunnel VERB: what; try ..." on stderr, returns MT_EXIT_USAGE. */
int mt_verb_usage_error(const struct mt_verb *verb, const char *what);
