#include "client/cmd.h"
#include "client/profile_file.h"
#include "client/say.h"

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

static const char help[] =
	"Usage: mytunnel import [--force] NAME\n"
	"\n"
	"Reads a profile (mytunnel://...) from standard input and stores it, readable by you "
	"alone,\n"
	"under ~/.config/mytunnel/NAME (or in $XDG_CONFIG_HOME/mytunnel). A profile without a key\n"
	"uses the one that 'mytunnel keygen NAME' has made, under this name or the client's.\n"
	"\n"
	"  --force  replace a profile of the same name\n"
	"\n"
	"Examples:\n"
	"  mytunnel import laptop < laptop.uri\n"
	"  ssh server mytunnelctl client add laptop | mytunnel import laptop\n";

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		{"force", no_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {0}};
	char path[MT_WHY_MAX];
	char why[MT_WHY_MAX];
	bool force = false;
	bool joined = false;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'f': force = true; break;
		case 'h': return mt_verb_print_help(&mt_verb_import);
		default: return mt_verb_usage_error(&mt_verb_import, "the option is not known");
		}
	}
	if (optind + 1 != argc) {
		return mt_verb_usage_error(&mt_verb_import, "exactly one NAME is needed");
	}
	if (isatty(STDIN_FILENO)) {
		mt_say("paste the profile and press Ctrl-D");
	}
	if (mt_profile_import(argv[optind], stdin, force, path, &joined, why) < 0) {
		mt_say("%s", why);
		return MT_EXIT_FAILED;
	}
	if (why[0] != '\0') {
		mt_say("stored as '%s', but %s", path, why);
		return MT_EXIT_OK;
	}
	mt_say("stored as '%s'%s; run: mytunnel connect %s", path,
		joined ? ", with the key made here" : "", argv[optind]);
	return MT_EXIT_OK;
}

const struct mt_verb mt_verb_import = {
	.name = "import",
	.run = run,
	.summary = "store a profile from standard input",
	.help = help,
};
