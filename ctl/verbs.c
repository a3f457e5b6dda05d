#include "ctl/ctl.h"

static const struct mt_ctl_verb verbs[] = {
	{"status", "", "Whether tunnels are served, where, and how much",
		"  mytunnelctl\n  mytunnelctl --json status\n", 0, 0, mt_ctl_status},
	{"get", "[KEY|PREFIX] [--changed]", "Show settings; a single key prints its bare value",
		"  mytunnelctl get quic\n  mytunnelctl get server.bind_addr\n  mytunnelctl get "
		"--changed\n",
		0, 2, mt_ctl_get},
	{"set", "KEY VALUE [KEY VALUE]... [--confirm TIME]",
		"Change settings, all or none; with --confirm only until TIME is over",
		"  mytunnelctl set quic.max_connections 100000\n  mytunnelctl set "
		"quic.max_stream_window 4Mi logging.level debug\n  mytunnelctl set "
		"server.bind_addr 0.0.0.0:8443 --confirm 2m\n",
		2, -1, mt_ctl_set},
	{"confirm", "", "Keep the settings that set --confirm put on trial",
		"  mytunnelctl confirm\n", 0, 0, mt_ctl_settings_confirm},
	{"reset", "KEY...", "Put settings back to their defaults",
		"  mytunnelctl reset quic.idle_timeout_secs\n", 1, -1, mt_ctl_reset},
	{"describe", "[KEY|PREFIX]", "What settings mean and take",
		"  mytunnelctl describe\n  mytunnelctl describe access\n", 0, 1, mt_ctl_describe},
	{"client add",
		"NAME [--key FILE] [--expires TIME] [--rate BITS] [--quota BYTES[/day|/month]] "
		"[--max-connections N] [--note TEXT] [--qr]",
		"Enrol a client and print its profile, once",
		"  mytunnelctl client add laptop > laptop.uri\n  mytunnelctl client add build "
		"--key build.pub\n  mytunnelctl client add guest --expires 30d --rate 50M "
		"--quota 100G/month\n  mytunnelctl client add phone --qr > phone.uri\n",
		1, -1, mt_ctl_client_add},
	{"client set",
		"NAME [--expires TIME] [--rate BITS] [--quota BYTES[/day|/month]] "
		"[--max-connections N] [--note TEXT]",
		"Change a client's limits; none lifts one",
		"  mytunnelctl client set guest --rate 20M --expires none\n", 3, -1,
		mt_ctl_client_set},
	{"client show", "NAME", "A client's limits, traffic and last address",
		"  mytunnelctl client show laptop\n", 1, 1, mt_ctl_client_show},
	{"client disable", "NAME",
		"Refuse a client until it is enabled again, and end its connections",
		"  mytunnelctl client disable laptop\n", 1, 1, mt_ctl_client_disable},
	{"client enable", "NAME", "Let a disabled client in again",
		"  mytunnelctl client enable laptop\n", 1, 1, mt_ctl_client_enable},
	{"client kick", "NAME", "End a client's connections; it may come back",
		"  mytunnelctl --yes client kick laptop\n", 1, 1, mt_ctl_client_kick},
	{"client list", "", "Enrolled clients, their limits and traffic",
		"  mytunnelctl client list\n", 0, 0, mt_ctl_client_list},
	{"client revoke", "NAME", "Refuse a client for good and end its connections",
		"  mytunnelctl --yes client revoke laptop\n", 1, 1, mt_ctl_client_revoke},
	{"client remove", "NAME",
		"Forget a client, so that its name is free again, and end its connections",
		"  mytunnelctl --yes client remove laptop\n", 1, 1, mt_ctl_client_remove},
	{"access list", "", "Access rules in their order: the first that matches decides",
		"  mytunnelctl access list\n", 0, 0, mt_ctl_access_list},
	{"access add", "[--at N] [--keep] RULE", "Add an access rule, at the end or before rule N",
		"  mytunnelctl access add deny tcp port 25\n"
		"  mytunnelctl access add deny client guest '*.example.com'\n"
		"  mytunnelctl access add --at 1 allow net 10.1.0.0/16 port 22-443\n\n"
		"A rule is allow|deny [client NAME] [tcp|udp] [NAME|'*.DOMAIN'] [net NETWORK] "
		"[port N[-M]].\nPrivate and special ranges are opened by a network inside them "
		"alone.\nTunnels that are not allowed any more end, unless --keep is given.\n",
		1, -1, mt_ctl_access_add},
	{"access remove", "[--keep] N", "Remove an access rule", "  mytunnelctl access remove 2\n",
		1, 2, mt_ctl_access_remove},
	{"access test", "CLIENT tcp|udp HOST:PORT",
		"Which rule decides about a target, and why ('-': a client without identity)",
		"  mytunnelctl access test laptop tcp www.example.com:443\n"
		"  mytunnelctl access test laptop udp [2001:db8::1]:53\n",
		3, 3, mt_ctl_access_test},
	{"cert show", "", "The server's certificates", "  mytunnelctl cert show\n", 0, 0,
		mt_ctl_cert_show},
	{"cert import", "CHAIN KEY", "Use a certificate of your own for profiles without a pin",
		"  mytunnelctl cert import fullchain.pem privkey.pem\n", 2, 2, mt_ctl_cert_import},
	{"cert renew", "",
		"Make a new server certificate now; it is renewed by itself long before it expires",
		"  mytunnelctl cert renew\n", 0, 0, mt_ctl_cert_renew},
	{"token create", "",
		"Make the token that the HTTP endpoint asks for off loopback, and print it once",
		"  mytunnelctl token create > http.token\n", 0, 0, mt_ctl_token_create},
	{"token remove", "", "Take that token away", "  mytunnelctl token remove\n", 0, 0,
		mt_ctl_token_remove},
	{"connections", "[--client NAME] [--sort KEY] [--limit N]",
		"Clients that are connected now",
		"  mytunnelctl connections\n  mytunnelctl connections --sort bytes_sent --limit "
		"10\n",
		0, 6, mt_ctl_connections},
	{"events", "[-f]", "What happened lately; -f goes on with what happens",
		"  mytunnelctl events -f\n  mytunnelctl --json events -f\n", 0, 1, mt_ctl_events},
	{"kick", "ID", "End one connection; its client may come back",
		"  mytunnelctl --yes kick 0-12\n", 1, 1, mt_ctl_kick},
	{"stats", "[--clients]", "All counters; with --clients each client's traffic",
		"  mytunnelctl stats\n  mytunnelctl --json stats\n  mytunnelctl stats --clients\n",
		0, 1, mt_ctl_stats},
	{"top", "", "Clients and their traffic, live in the terminal", "  mytunnelctl top\n", 0, 0,
		mt_ctl_top},
	{"doctor", "", "Check the server and its host, with the command that mends what is wrong",
		"  sudo mytunnelctl doctor\n", 0, 0, mt_ctl_doctor},
	{"audit", "[--limit N]", "Who changed what, the newest last",
		"  mytunnelctl audit\n  mytunnelctl audit --limit 500\n", 0, 2, mt_ctl_audit},
	{"backup", "FILE", "Write all settings, clients, rules and keys to a new file",
		"  mytunnelctl backup mytunnel-1.backup\n", 1, 1, mt_ctl_backup},
	{"restore", "FILE", "Replace everything by a backup, after checking it",
		"  mytunnelctl restore mytunnel-1.backup\n", 1, 1, mt_ctl_restore},
	{"trace start", "CLIENT --qlog DIR [--for TIME] [--max-size SIZE]",
		"Write qlog of a client's new connections into a folder, until Ctrl-C",
		"  sudo mytunnelctl trace start laptop --qlog /tmp/laptop --for 5m\n\n"
		"There is a file for each connection: DIR/TRACE-ID.sqlog. It needs ngtcp2 1.22.1 "
		"or later.\n",
		1, 7, mt_ctl_trace_start},
	{"trace stop", "[CLIENT]", "End the trace of a client, or all traces",
		"  mytunnelctl trace stop laptop\n", 0, 1, mt_ctl_trace_stop},
	{"trace list", "", "Traces that are under way", "  mytunnelctl trace list\n", 0, 0,
		mt_ctl_trace_list},
	{"drain", "", "Take no more work, and let open tunnels end, until the daemon is restarted",
		"  mytunnelctl --yes drain\n", 0, 0, mt_ctl_drain},
	{"version", "", "Versions of this program and of the daemon", "  mytunnelctl version\n", 0,
		0, mt_ctl_version},
};

const struct mt_ctl_verb *mt_ctl_verbs(size_t *count)
{
	*count = sizeof(verbs) / sizeof(verbs[0]);
	return verbs;
}
