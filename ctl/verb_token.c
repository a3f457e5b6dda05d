#include "ctl/ctl.h"

#include <stdio.h>

static int print_token(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	puts(mt_ctl_text(result, "token"));
	return CTL_OK;
}

static int print_removed(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	(void)result;
	puts("the token is gone");
	return CTL_OK;
}

int mt_ctl_token_create(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "token.create", NULL, print_token);
}

int mt_ctl_token_remove(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "token.remove", NULL, print_removed);
}
