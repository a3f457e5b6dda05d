#include "ctl/ctl.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- traffic ---- */

static int64_t traffic_of(const json_t *row)
{
	return number_of(row, "bytes_received") + number_of(row, "bytes_sent");
}

static int by_traffic(const void *a, const void *b)
{
	int64_t x = traffic_of(*(const json_t *const *)a);
	int64_t y = traffic_of(*(const json_t *const *)b);

	return x < y ? 1 : x > y ? -1 : 0;
}

static void add_traffic(struct mt_table *t, const char *name, const json_t *row)
{
	char text[MT_NUMBER_TEXT_MAX];

	mt_table_add(t, name);
	mt_table_addf(t, "%" PRId64, number_of(row, "connections"));
	mt_table_add(t, mt_format_bytes(text, (uint64_t)number_of(row, "bytes_received")));
	mt_table_add(t, mt_format_bytes(text, (uint64_t)number_of(row, "bytes_sent")));
	mt_table_add(t, mt_format_bytes(text, (uint64_t)traffic_of(row)));
}

static int print_traffic(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"CLIENT", "CONNECTED", "RECEIVED", "SENT", "SUM"};
	const json_t *list = json_object_get(result, "clients");
	size_t count = json_array_size(list);
	const json_t **rows = calloc(count + 1, sizeof(const json_t *));
	struct mt_table *t = mt_table_new(headings, sizeof(headings) / sizeof(headings[0]));
	int rv = -1;

	if (rows == NULL || t == NULL) {
		goto out;
	}
	for (size_t i = 0; i < count; i++) {
		rows[i] = json_array_get(list, i);
	}
	qsort(rows, count, sizeof(rows[0]), by_traffic);
	for (size_t i = 0; i < count; i++) {
		add_traffic(t, mt_ctl_text(rows[i], "name"), rows[i]);
	}
	add_traffic(t, "(total)", json_object_get(result, "total"));
	rv = mt_table_print(t, stdout, ctl->color);
out:
	mt_table_free(t);
	free(rows);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_client_stats(const struct mt_ctl *ctl)
{
	return mt_ctl_ask(ctl, "client.list", NULL, print_traffic);
}
