#include "client/cmd.h"
#include "client/profile_file.h"
#include "client/say.h"
#include "proto/quic/identity.h"
#include "proto/wire/encode.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
	"Usage: mytunnel keygen [--force] NAME\n"
	"\n"
	"Makes a key on this machine. The private key goes to ~/.config/mytunnel/NAME.key (or "
	"into\n"
	"$XDG_CONFIG_HOME/mytunnel) and never leaves it; the public key is printed, for the "
	"server's\n"
	"administrator.\n"
	"\n"
	"  --force  replace a key of the same name: the server must then enrol the new one\n"
	"\n"
	"Examples:\n"
	"  mytunnel keygen laptop > laptop.pem\n"
	"  mytunnelctl client add laptop --key laptop.pem > laptop.uri     (on the server)\n"
	"  mytunnel import laptop < laptop.uri\n";

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		{"force", no_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {0}};
	uint8_t key[MT_KEY_LEN] = {0};
	char path[MT_WHY_MAX];
	char why[MT_WHY_MAX];
	char *pem = NULL;
	bool force = false;
	int status = MT_EXIT_FAILED;
	int option;
	int err;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'f': force = true; break;
		case 'h': return mt_verb_print_help(&mt_verb_keygen);
		default: return mt_verb_usage_error(&mt_verb_keygen, "the option is not known");
		}
	}
	if (optind + 1 != argc) {
		return mt_verb_usage_error(&mt_verb_keygen, "exactly one NAME is needed");
	}
	err = mt_identity_generate(key);
	if (err == 0) {
		err = mt_identity_public_pem(key, &pem);
	}
	if (err < 0) {
		mt_say("cannot make a key (%s)", mt_strerror(err));
		goto out;
	}
	if (mt_profile_store_key(argv[optind], key, force, path, why) < 0) {
		mt_say("%s", why);
		goto out;
	}
	mt_say("the private key is in '%s'; on the server: mytunnelctl client add %s --key FILE",
		path, argv[optind]);
	if (fputs(pem, stdout) >= 0 && fflush(stdout) == 0) {
		status = MT_EXIT_OK;
	} else {
		mt_say("the public key could not be written");
	}
out:
	free(pem);
	mt_wipe(key, sizeof(key));
	return status;
}

const struct mt_verb mt_verb_keygen = {
	.name = "keygen",
	.run = run,
	.summary = "make a key on this machine, print its public half",
	.help = help,
};
