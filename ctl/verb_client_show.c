#include "ctl/ctl.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LIMIT_TEXT_MAX 48

static int64_t number_of(const json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

static const char *format_rate(char buf[LIMIT_TEXT_MAX], int64_t bits)
{
	static const char *const units[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s"};
	double value = (double)bits;
	size_t unit = 0;

	while (value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1000;
		unit++;
	}
	(void)snprintf(buf, LIMIT_TEXT_MAX, "%.4g %s", value, units[unit]); /* at most 17 */
	return buf;
}

/* "100.0 GB/month", without a period "100.0 GB". */
static const char *format_quota(char buf[LIMIT_TEXT_MAX], const json_t *row)
{
	const char *period = mt_ctl_text(row, "quota_period");
	char bytes[MT_NUMBER_TEXT_MAX];

	(void)snprintf(buf, LIMIT_TEXT_MAX, "%s%s%.8s", /* for people: always fits */
		mt_format_bytes(bytes, (uint64_t)number_of(row, "quota_bytes")),
		strcmp(period, "none") == 0 ? "" : "/", strcmp(period, "none") == 0 ? "" : period);
	return buf;
}

static void add_row(struct mt_table *t, const json_t *row)
{
	char text[MT_NUMBER_TEXT_MAX];
	char limit[LIMIT_TEXT_MAX];

	mt_table_add(t, mt_ctl_text(row, "name"));
	mt_table_add(t, mt_ctl_text(row, "state"));
	mt_table_addf(t, "%" PRId64, number_of(row, "connections"));
	mt_table_add(t, mt_format_bytes(text, (uint64_t)number_of(row, "bytes_received")));
	mt_table_add(t, mt_format_bytes(text, (uint64_t)number_of(row, "bytes_sent")));
	mt_table_add(t, number_of(row, "last_seen") > 0
				? mt_format_time(text, number_of(row, "last_seen"))
				: "never");
	mt_table_add(t, number_of(row, "rate_bits") > 0
				? format_rate(limit, number_of(row, "rate_bits"))
				: "-");
	mt_table_add(t, number_of(row, "quota_bytes") > 0 ? format_quota(limit, row) : "-");
	mt_table_add(t, number_of(row, "expires_at") > 0
				? mt_format_time(text, number_of(row, "expires_at"))
				: "-");
	mt_table_add(t, mt_ctl_text(row, "note"));
}

static int print_clients(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"NAME", "STATE", "CONNECTED", "RECEIVED", "SENT",
		"LAST SEEN", "RATE", "QUOTA", "EXPIRES", "NOTE"};
	const json_t *list = json_object_get(result, "clients");
	struct mt_table *t;
	size_t i;
	json_t *row;
	int rv;

	if (json_array_size(list) == 0) {
		fputs("no clients yet; mytunnelctl client add NAME\n", stderr);
		return CTL_OK;
	}
	t = mt_table_new(headings, sizeof(headings) / sizeof(headings[0]));
	json_array_foreach(list, i, row)
	{
		if (t != NULL) {
			add_row(t, row);
		}
	}
	rv = t != NULL ? mt_table_print(t, stdout, ctl->color) : -1;
	mt_table_free(t);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_client_list(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "client.list", NULL, print_clients);
}

static void print_time(const char *label, int64_t when, const char *otherwise)
{
	char text[MT_NUMBER_TEXT_MAX];

	printf("%-16s %s\n", label, when > 0 ? mt_format_time(text, when) : otherwise);
}

static void print_limits(const json_t *c)
{
	char limit[LIMIT_TEXT_MAX];
	char bytes[MT_NUMBER_TEXT_MAX];
	int64_t most = number_of(c, "max_connections");

	print_time("expires", number_of(c, "expires_at"), "never");
	printf("%-16s %s\n", "rate",
		number_of(c, "rate_bits") > 0 ? format_rate(limit, number_of(c, "rate_bits"))
					      : "unlimited");
	if (number_of(c, "quota_bytes") > 0) {
		printf("%-16s %s, %s used\n", "quota", format_quota(limit, c),
			mt_format_bytes(bytes, (uint64_t)number_of(c, "period_bytes")));
		print_time("quota since", number_of(c, "period_start"), "-");
	} else {
		printf("%-16s %s\n", "quota", "none");
	}
	printf("%-16s %" PRId64 " now, ", "connections", number_of(c, "connections"));
	if (most > 0) {
		printf("%" PRId64 " allowed\n", most);
	} else {
		puts("any number allowed");
	}
}

int mt_ctl_print_client(const struct mt_ctl *ctl, const json_t *result)
{
	const json_t *c = json_object_get(result, "client");
	char in[MT_NUMBER_TEXT_MAX];
	char out[MT_NUMBER_TEXT_MAX];

	(void)ctl;
	printf("%-16s %s\n", "name", mt_ctl_text(c, "name"));
	printf("%-16s %s\n", "state", mt_ctl_text(c, "state"));
	print_limits(c);
	printf("%-16s %s from the client, %s to it\n", "traffic",
		mt_format_bytes(in, (uint64_t)number_of(c, "bytes_received")),
		mt_format_bytes(out, (uint64_t)number_of(c, "bytes_sent")));
	print_time("last seen", number_of(c, "last_seen"), "never");
	if (*mt_ctl_text(c, "last_address") != '\0') {
		printf("%-16s %s\n", "last address", mt_ctl_text(c, "last_address"));
	}
	print_time("added", number_of(c, "created_at"), "-");
	printf("%-16s %s\n", "key", mt_ctl_text(c, "fingerprint"));
	if (*mt_ctl_text(c, "note") != '\0') {
		printf("%-16s %s\n", "note", mt_ctl_text(c, "note"));
	}
	return CTL_OK;
}

int mt_ctl_client_show(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	return mt_ctl_ask(
		ctl, "client.show", json_pack("{s:s}", "name", argv[0]), mt_ctl_print_client);
}
