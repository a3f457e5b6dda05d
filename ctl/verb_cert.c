#include "ctl/ctl.h"
#include "ctl/table.h"
#include "proto/wire/encode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_line(const char *label, const char *text)
{
	if (*text != '\0') {
		printf("  %-12s %s\n", label, text);
	}
}

static void print_one(const json_t *cert)
{
	char from[MT_NUMBER_TEXT_MAX];
	char until[MT_NUMBER_TEXT_MAX];

	puts(mt_ctl_text(cert, "certificate"));
	print_line("subject", mt_ctl_text(cert, "subject"));
	print_line("issuer", mt_ctl_text(cert, "issuer"));
	print_line("names", mt_ctl_text(cert, "names"));
	printf("  %-12s %s to %s\n", "valid",
		mt_format_time(from, json_integer_value(json_object_get(cert, "not_before"))),
		mt_format_time(until, json_integer_value(json_object_get(cert, "not_after"))));
	print_line("fingerprint", mt_ctl_text(cert, "fingerprint"));
	print_line("pin", mt_ctl_text(cert, "pin"));
}

static int print_certs(const struct mt_ctl *ctl, const json_t *result)
{
	size_t i;
	json_t *cert;

	(void)ctl;
	json_array_foreach(json_object_get(result, "certificates"), i, cert)
	{
		fputs(i > 0 ? "\n" : "", stdout);
		print_one(cert);
	}
	return CTL_OK;
}

int mt_ctl_cert_show(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "cert.show", NULL, print_certs);
}

static int print_imported(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	puts("imported; new connections of profiles without a pin get this certificate:");
	print_one(json_object_get(result, "certificate"));
	return CTL_OK;
}

int mt_ctl_cert_import(const struct mt_ctl *ctl, int argc, char **argv)
{
	size_t key_len = 0;
	char *chain = mt_ctl_read_file(argv[0], NULL);
	char *key = chain != NULL ? mt_ctl_read_file(argv[1], &key_len) : NULL;
	int status = CTL_FAILED;
	json_t *args;

	(void)argc;
	if (key == NULL) {
		goto out;
	}
	args = json_pack("{s:s, s:s}", "chain", chain, "key", key);
	if (args == NULL) {
		status = mt_ctl_fail(CTL_FAILED, "the files are not PEM text");
		goto out;
	}
	status = mt_ctl_ask(ctl, "cert.import", args, print_imported);
out:
	if (key != NULL) {
		mt_wipe(key, key_len);
	}
	free(key);
	free(chain);
	return status;
}

static int print_renewed(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	puts("renewed; new connections of pinned profiles get this certificate:");
	print_one(json_object_get(result, "certificate"));
	return CTL_OK;
}

int mt_ctl_cert_renew(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "cert.renew", NULL, print_renewed);
}
