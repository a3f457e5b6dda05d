#include "client/cmd.h"
#include "client/forward.h"
#include "client/profile_file.h"
#include "client/say.h"
#include "client/session.h"
#include "proto/wire/encode.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const char help[] =
	"Usage: mytunnel connect [OPTION]... PROFILE\n"
	"\n"
	"Connects to the server and stays connected; local applications reach the network through\n"
	"it. PROFILE is a file, an imported name, or '-' for standard input. Without options "
	"SOCKS5\n"
	"and HTTP proxies are offered on 127.0.0.1:1080.\n"
	"\n"
	"  --socks [IP:]PORT           offer SOCKS5 (and HTTP) here\n"
	"  --http [IP:]PORT            offer HTTP (and SOCKS5) here\n"
	"  -L [BIND:]PORT:HOST:HOSTPORT  forward connections to PORT here to HOST, as seen from "
	"the\n"
	"                              server; IPv6 addresses in brackets\n"
	"  -U [BIND:]PORT:HOST:HOSTPORT  the same for UDP: each local sender has a port of its own "
	"at the\n"
	"                              server\n"
	"  --transport auto|quic|tls   how to reach the server: QUIC over UDP, TLS over TCP, or "
	"(auto,\n"
	"                              the default) QUIC, and TLS while UDP does not get "
	"through\n"
	"  --verbose                   a line on standard error for each tunnel that failed or "
	"ended,\n"
	"                              with the trace id that the server's log has too, and what\n"
	"                              became of UDP\n"
	"  --log-format pretty|json    the form of these lines; --verbose is implied\n"
	"\n"
	"-L, -U, --socks and --http may be repeated; PORT 0 takes a free one. The addresses, and "
	"the "
	"state and\n"
	"transport of the connection when they change, are printed on standard output.\n"
	"\n"
	"Examples:\n"
	"  mytunnel connect laptop\n"
	"  mytunnel connect ./laptop.uri --socks 127.0.0.1:9050\n"
	"  mytunnel connect laptop -L 2222:intranet.example:22\n"
	"  mytunnel connect laptop -U 5353:dns.example:53\n"
	"  mytunnel connect - < laptop.uri\n";

static int add_proxy(struct mt_session_config *config, const char *kind, const char *text)
{
	struct mt_session_proxy *proxy = &config->proxies[config->proxy_count];

	if (config->proxy_count == MT_SESSION_PROXIES_MAX) {
		return mt_verb_usage_error(&mt_verb_connect, "there are too many proxy addresses");
	}
	if (mt_listen_parse(&proxy->bind, text) < 0) {
		mt_say("connect: '%.80s' is not [IP:]PORT; try: mytunnel connect --help", text);
		return MT_EXIT_USAGE;
	}
	proxy->kind = kind;
	config->proxy_count++;
	return MT_EXIT_OK;
}

static int add_forward(struct mt_forward *forwards, size_t *count, char option, const char *text)
{
	const char *why = "";

	if (*count == MT_SESSION_FORWARDS_MAX) {
		return mt_verb_usage_error(&mt_verb_connect, "there are too many forwards");
	}
	if (mt_forward_parse(&forwards[*count], text, &why) < 0) {
		mt_say("connect: -%c '%.200s': %s; try: mytunnel connect --help", option, text,
			why);
		return MT_EXIT_USAGE;
	}
	(*count)++;
	return MT_EXIT_OK;
}

static int parse_choice(struct mt_session_config *config, const char *text)
{
	return mt_choice_parse(&config->choice, text)
		       ? MT_EXIT_OK
		       : mt_verb_usage_error(&mt_verb_connect, MT_CHOICE_USAGE);
}

static int parse_log_format(struct mt_session_config *config, const char *text)
{
	if (strcmp(text, "pretty") == 0) {
		config->log = MT_TUNNEL_LOG_PRETTY;
	} else if (strcmp(text, "json") == 0) {
		config->log = MT_TUNNEL_LOG_JSON;
	} else {
		return mt_verb_usage_error(&mt_verb_connect, "--log-format is pretty or json");
	}
	return MT_EXIT_OK;
}

static int parse_options(struct mt_session_config *config, int argc, char **argv, bool *helped)
{
	static const struct option options[] = {
		{"socks", required_argument, NULL, 's'},
		{"http", required_argument, NULL, 'p'},
		{"transport", required_argument, NULL, 't'},
		{"verbose", no_argument, NULL, 'v'},
		{"log-format", required_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int status = MT_EXIT_OK;
	int option;

	while (status == MT_EXIT_OK &&
		(option = getopt_long(argc, argv, "L:U:h", options, NULL)) != -1) {
		switch (option) {
		case 's': status = add_proxy(config, "socks", optarg); break;
		case 'p': status = add_proxy(config, "http", optarg); break;
		case 't': status = parse_choice(config, optarg); break;
		case 'v':
			if (config->log == MT_TUNNEL_LOG_OFF) {
				config->log = MT_TUNNEL_LOG_PRETTY;
			}
			break;
		case 'f': status = parse_log_format(config, optarg); break;
		case 'L':
			status = add_forward(config->forwards, &config->forward_count, 'L', optarg);
			break;
		case 'U':
			status = add_forward(
				config->udp_forwards, &config->udp_forward_count, 'U', optarg);
			break;
		case 'h': *helped = true; return mt_verb_print_help(&mt_verb_connect);
		default:
			status = mt_verb_usage_error(&mt_verb_connect, "the option is not known");
			break;
		}
	}
	if (status == MT_EXIT_OK && config->proxy_count == 0 && config->forward_count == 0 &&
		config->udp_forward_count == 0) {
		config->by_default = true;
		status = add_proxy(config, "socks", "127.0.0.1:1080");
	}
	return status;
}

/* A thousand tunnels are a thousand descriptors, and shells give 1,024. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit); /* as many as there are, then */
	}
}

static int run(int argc, char **argv)
{
	static struct mt_session_config config; /* too large for the stack */
	struct mt_profile profile;
	char warning[MT_WHY_MAX];
	char why[MT_WHY_MAX];
	bool helped = false;
	int status = parse_options(&config, argc, argv, &helped);

	if (status != MT_EXIT_OK || helped) {
		return status;
	}
	if (optind + 1 != argc) {
		return mt_verb_usage_error(&mt_verb_connect, "exactly one PROFILE is needed");
	}
	if (mt_profile_load(&profile, argv[optind], stdin, warning, why) < 0) {
		mt_say("%s", why);
		return MT_EXIT_FAILED;
	}
	if (warning[0] != '\0') {
		mt_say("warning: %s", warning);
	}
	raise_descriptor_limit();
	status = mt_session_run(&config, &profile) < 0 ? MT_EXIT_FAILED : MT_EXIT_OK;
	mt_profile_deinit(&profile);
	return status;
}

const struct mt_verb mt_verb_connect = {
	.name = "connect",
	.run = run,
	.summary = "connect to the server and offer SOCKS5, HTTP and forwards",
	.help = help,
};
