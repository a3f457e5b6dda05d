#include "ctl/ctl.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t number_of(const json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

static void print_listeners(const json_t *result)
{
	const json_t *http = json_object_get(result, "http");
	size_t i;
	json_t *l;

	json_array_foreach(json_object_get(result, "listeners"), i, l)
	{
		printf("listening    %s (%s)\n", mt_ctl_text(l, "address"),
			mt_ctl_text(l, "protocol"));
	}
	if (*mt_ctl_text(http, "address") != '\0') {
		printf("http         %s://%s/\n",
			json_is_true(json_object_get(http, "secured")) ? "https" : "http",
			mt_ctl_text(http, "address"));
	} else if (*mt_ctl_text(http, "problem") != '\0') {
		printf("http         off: %s\n", mt_ctl_text(http, "problem"));
	}
}

static void print_state(const struct mt_ctl *ctl, const json_t *result)
{
	const char *state = mt_ctl_text(result, "state");
	const char *color = strcmp(state, "running") == 0    ? "\033[32m"
			    : strcmp(state, "degraded") == 0 ? "\033[31m"
							     : "\033[33m";

	printf("state        %s%s%s\n", ctl->color ? color : "", state,
		ctl->color ? "\033[0m" : "");
	if (*mt_ctl_text(result, "problem") != '\0') {
		printf("problem      %s\n", mt_ctl_text(result, "problem"));
	}
	if (*mt_ctl_text(result, "next") != '\0') {
		printf("next         %s\n", mt_ctl_text(result, "next"));
	}
}

static int print_status(const struct mt_ctl *ctl, const json_t *result)
{
	const json_t *c = json_object_get(result, "connections");
	const json_t *t = json_object_get(result, "tunnels");
	const json_t *u = json_object_get(result, "udp");
	const json_t *traffic = json_object_get(result, "traffic");
	const json_t *clients = json_object_get(result, "clients");
	const json_t *memory = json_object_get(result, "memory");
	char up[MT_NUMBER_TEXT_MAX];
	char in[MT_NUMBER_TEXT_MAX];
	char out[MT_NUMBER_TEXT_MAX];

	print_state(ctl, result);
	printf("version      %s, pid %" PRId64 ", up %s, %" PRId64 " workers\n",
		mt_ctl_text(result, "version"), number_of(result, "pid"),
		mt_format_duration(up, number_of(result, "uptime_seconds")),
		number_of(result, "workers"));
	print_listeners(result);
	printf("clients      %" PRId64 " enrolled, %" PRId64 " revoked\n",
		number_of(clients, "enrolled"), number_of(clients, "revoked"));
	printf("connections  %" PRId64 " active, %" PRId64 " in total, %" PRId64 " failed, %" PRId64
	       " refused\n",
		number_of(c, "active"), number_of(c, "total"), number_of(c, "failed"),
		number_of(c, "refused") + number_of(c, "identity_refused"));
	printf("tunnels      %" PRId64 " active, %" PRId64 " in total, %" PRId64
	       " refused, %" PRId64 " failed\n",
		number_of(t, "active"), number_of(t, "opened"), number_of(t, "refused"),
		number_of(t, "failed"));
	printf("udp          %" PRId64 " sessions, %" PRId64 " datagrams from clients, %" PRId64
	       " to clients\n",
		number_of(u, "flows"), number_of(u, "from_clients"), number_of(u, "to_clients"));
	printf("memory       %s of connections, %s at most\n",
		mt_format_bytes(in, (uint64_t)number_of(memory, "used_bytes")),
		mt_format_bytes(out, (uint64_t)number_of(memory, "limit_bytes")));
	printf("traffic      %s from clients, %s to clients\n",
		mt_format_bytes(in, (uint64_t)number_of(traffic, "bytes_received")),
		mt_format_bytes(out, (uint64_t)number_of(traffic, "bytes_sent")));
	return CTL_OK;
}

int mt_ctl_status(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "status", NULL, print_status);
}

static int print_stats(const struct mt_ctl *ctl, const json_t *result)
{
	const char *key;
	json_t *value;

	(void)ctl;
	json_object_foreach((json_t *)(uintptr_t)json_object_get(result, "counters"), key, value)
	{
		printf("%-26s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
	}
	return CTL_OK;
}

int mt_ctl_stats(const struct mt_ctl *ctl, int argc, char **argv)
{
	if (argc == 1) {
		return strcmp(argv[0], "--clients") == 0
			       ? mt_ctl_client_stats(ctl)
			       : mt_ctl_fail(CTL_USAGE, "usage: mytunnelctl stats [--clients]");
	}
	return mt_ctl_ask(ctl, "stats", NULL, print_stats);
}

static int print_version(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("mytunnelctl %s\nmytunneld %s\n", MT_VERSION, mt_ctl_text(result, "version"));
	return CTL_OK;
}

int mt_ctl_version(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return mt_ctl_ask(ctl, "version", NULL, print_version);
}

static int print_connections(const struct mt_ctl *ctl, const json_t *result)
{
	static const char *const headings[] = {"ID", "CLIENT", "PEER", "TRANSPORT", "SINCE", "RTT",
		"RECEIVED", "SENT", "STREAMS", "UDP"};
	struct mt_table *t = mt_table_new(headings, sizeof(headings) / sizeof(headings[0]));
	char text[MT_NUMBER_TEXT_MAX];
	size_t i;
	json_t *row;
	int rv;

	json_array_foreach(json_object_get(result, "connections"), i, row)
	{
		if (t == NULL) {
			break;
		}
		mt_table_add(t, mt_ctl_text(row, "id"));
		mt_table_add(
			t, *mt_ctl_text(row, "client") != '\0' ? mt_ctl_text(row, "client") : "-");
		mt_table_add(t, mt_ctl_text(row, "peer"));
		mt_table_add(t, mt_ctl_text(row, "transport"));
		mt_table_add(t, mt_format_time(text, number_of(row, "connected_at")));
		mt_table_addf(t, "%.1f ms", json_number_value(json_object_get(row, "rtt_ms")));
		mt_table_add(t, mt_format_bytes(text, (uint64_t)number_of(row, "bytes_received")));
		mt_table_add(t, mt_format_bytes(text, (uint64_t)number_of(row, "bytes_sent")));
		mt_table_addf(t, "%" PRId64, number_of(row, "streams"));
		mt_table_addf(t, "%" PRId64, number_of(row, "udp_flows"));
	}
	rv = t != NULL ? mt_table_print(t, stdout, ctl->color) : -1;
	mt_table_free(t);
	return rv == 0 ? CTL_OK : mt_ctl_fail(CTL_FAILED, "out of memory");
}

int mt_ctl_connections(const struct mt_ctl *ctl, int argc, char **argv)
{
	json_t *args = json_object();
	int bad = 0;

	for (int i = 0; i < argc && bad == 0; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		char *end = NULL;

		if (value == NULL) {
			bad = 1;
		} else if (strcmp(argv[i], "--client") == 0) {
			bad = json_object_set_new(args, "client", json_string(value));
		} else if (strcmp(argv[i], "--sort") == 0) {
			bad = json_object_set_new(args, "sort", json_string(value));
		} else if (strcmp(argv[i], "--limit") == 0) {
			long limit = strtol(value, &end, 10);

			bad = *value == '\0' || *end != '\0' || limit < 1 ||
			      json_object_set_new(args, "limit", json_integer(limit)) != 0;
		} else {
			bad = 1;
		}
	}
	if (bad != 0) {
		json_decref(args);
		return mt_ctl_fail(CTL_USAGE,
			"usage: mytunnelctl connections [--client NAME] [--sort KEY] [--limit N]");
	}
	return mt_ctl_ask(ctl, "connections", args, print_connections);
}

static int print_kicked(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("connection %s has been ended\n", mt_ctl_text(result, "kicked"));
	return CTL_OK;
}

int mt_ctl_kick(const struct mt_ctl *ctl, int argc, char **argv)
{
	char question[96];

	(void)argc;
	(void)snprintf(question, sizeof(question), "End connection %.24s?",
		argv[0]); /* for people: cut when too long */
	if (!mt_ctl_confirm(ctl, question)) {
		return CTL_FAILED;
	}
	return mt_ctl_ask(ctl, "kick", json_pack("{s:s}", "id", argv[0]), print_kicked);
}

static int print_drained(const struct mt_ctl *ctl, const json_t *result)
{
	(void)ctl;
	printf("%s: new connections and tunnels are refused, %" PRId64 " tunnels are still open\n",
		mt_ctl_text(result, "state"), number_of(result, "tunnels"));
	return CTL_OK;
}

int mt_ctl_drain(const struct mt_ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (!mt_ctl_confirm(ctl, "Refuse all new work until the daemon is restarted?")) {
		return CTL_FAILED;
	}
	return mt_ctl_ask(ctl, "drain", NULL, print_drained);
}
