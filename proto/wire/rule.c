#include "proto/wire/rule.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BLANKS " \t"

/* The words that are left, and where to say what is wrong with them. */
struct parser {
	char text[MT_RULE_TEXT_MAX]; /* words are cut out in place */
	char *rest;
	char *why;
	size_t why_cap;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct parser *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* For people: cut when it does not fit. */
	(void)vsnprintf(p->why, p->why_cap, format, args);
	va_end(args);
	return MT_E_MALFORMED;
}

/* The next word; NULL at the end. */
static char *next_word(struct parser *p)
{
	char *word = p->rest + strspn(p->rest, BLANKS);
	size_t len = strcspn(word, BLANKS);

	if (len == 0) {
		return NULL;
	}
	p->rest = word + len;
	if (*p->rest != '\0') {
		*p->rest++ = '\0';
	}
	return word;
}

static int take_client(struct parser *p, struct mt_rule *rule, const char *name)
{
	if (rule->client[0] != '\0') {
		return refuse(
			p, "a rule names one client, not '%.32s' and '%.32s'", rule->client, name);
	}
	if (mt_name_check(name) != 0) {
		return refuse(p, "'%.64s' is no client's name", name);
	}
	memcpy(rule->client, name, strlen(name) + 1);
	return 0;
}

static int take_protocol(struct parser *p, struct mt_rule *rule, enum mt_rule_protocol protocol)
{
	if (rule->protocol != MT_RULE_ANY) {
		return refuse(p, "a rule names one protocol; leave it out for both");
	}
	rule->protocol = protocol;
	return 0;
}

static int take_net(struct parser *p, struct mt_rule *rule, const char *text)
{
	int rv;

	if (rule->net.addr.len != 0) {
		return refuse(p, "a rule names one network; '%.64s' is the second", text);
	}
	rv = mt_net_parse(&rule->net, text);
	if (rv == MT_E_RANGE) {
		return refuse(p,
			"'%.64s' has bits set behind its prefix; a network looks like "
			"10.1.0.0/16 or 2001:db8::/32",
			text);
	}
	if (rv != 0) {
		return refuse(p,
			"'%.64s' is no network; one looks like 10.1.0.0/16, 192.0.2.7 or "
			"2001:db8::/32",
			text);
	}
	return 0;
}

static int take_host(struct parser *p, struct mt_rule *rule, const char *text)
{
	size_t len = strlen(text);
	size_t wild = strncmp(text, "*.", 2) == 0 ? 2 : 0;
	enum mt_host_kind kind = MT_HOST_NAME;
	struct mt_addr addr;

	if (rule->host[0] != '\0') {
		return refuse(p, "a rule names one host; '%.64s' is the second", text);
	}
	if (strcmp(text, "*") == 0) {
		memcpy(rule->host, "*", 2);
		return 0;
	}
	if (strchr(text + wild, '*') != NULL) {
		return refuse(p,
			"'%.64s': a '*' stands for the front of a name alone, as in "
			"*.example.com",
			text);
	}
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] >= 0x80) {
			return refuse(
				p, "'%.64s': write the name in its ASCII form (xn--...)", text);
		}
	}
	if (mt_host_parse(&kind, &addr, text + wild, len - wild, 0) != 0 || kind != MT_HOST_NAME) {
		return refuse(p, "'%.64s' is no host name", text);
	}
	if (text[len - 1] == '.') {
		len--;
	}
	assert(len <= MT_RULE_HOST_MAX); /* mt_host_parse has seen to it */
	for (size_t i = 0; i < len; i++) {
		rule->host[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
	}
	rule->host[len] = '\0';
	return 0;
}

/* One number from 1 to 65535; `*text` is moved behind it. */
static int read_port(const char **text, uint16_t *out)
{
	unsigned v = 0;
	const char *at = *text;

	while (*at >= '0' && *at <= '9' && v <= UINT16_MAX) {
		v = v * 10 + (unsigned)(*at++ - '0');
	}
	if (at == *text || **text == '0' || v > UINT16_MAX) {
		return MT_E_MALFORMED;
	}
	*text = at;
	*out = (uint16_t)v;
	return 0;
}

static int take_port(struct parser *p, struct mt_rule *rule, const char *text)
{
	const char *at = text;
	uint16_t first = 0;
	uint16_t last = 0;
	int rv = read_port(&at, &first);

	if (rule->port_first != 0) {
		return refuse(p, "a rule names one port or range; '%.32s' is the second", text);
	}
	last = first;
	if (rv == 0 && *at == '-') {
		at++;
		rv = read_port(&at, &last);
	}
	if (rv != 0 || *at != '\0' || last < first) {
		return refuse(
			p, "'%.32s' is no port or range; one looks like 443 or 8000-8080", text);
	}
	rule->port_first = first;
	rule->port_last = last;
	return 0;
}

/* A word without a keyword before it: a pattern, an address or a network. */
static int take_target(struct parser *p, struct mt_rule *rule, const char *word)
{
	enum mt_host_kind kind = MT_HOST_NAME;
	struct mt_addr addr;

	if (strchr(word, '/') != NULL ||
		(mt_host_parse(&kind, &addr, word, strlen(word), 0) == 0 && kind != MT_HOST_NAME)) {
		return take_net(p, rule, word);
	}
	if (strpbrk(word, ".*") == NULL) {
		return refuse(p,
			"what is '%.64s'? write 'client %.64s' for a client, 'host %.64s' "
			"for a target",
			word, word, word);
	}
	return take_host(p, rule, word);
}

static int take_selector(struct parser *p, struct mt_rule *rule, const char *word)
{
	static const struct {
		const char *word;
		int (*take)(struct parser *p, struct mt_rule *rule, const char *value);
	} selectors[] = {
		{"client", take_client},
		{"host", take_host},
		{"net", take_net},
		{"port", take_port},
	};

	if (strcasecmp(word, "tcp") == 0) {
		return take_protocol(p, rule, MT_RULE_TCP);
	}
	if (strcasecmp(word, "udp") == 0) {
		return take_protocol(p, rule, MT_RULE_UDP);
	}
	for (size_t i = 0; i < sizeof(selectors) / sizeof(selectors[0]); i++) {
		if (strcasecmp(word, selectors[i].word) == 0) {
			const char *value = next_word(p);

			return value != NULL ? selectors[i].take(p, rule, value)
					     : refuse(p, "'%s' needs a value", selectors[i].word);
		}
	}
	return take_target(p, rule, word);
}

int mt_rule_parse(struct mt_rule *out, const char *text, char *why, size_t why_cap)
{
	struct parser p = {.why = why, .why_cap = why_cap};
	struct mt_rule rule = {.allow = false};
	size_t len = strlen(text);
	const char *word;
	int rv = 0;

	if (len >= sizeof(p.text)) {
		(void)refuse(&p, "a rule has at most %zu characters", sizeof(p.text) - 1);
		return MT_E_TOO_LONG;
	}
	memcpy(p.text, text, len + 1);
	p.rest = p.text;
	word = next_word(&p);
	if (word != NULL && strcasecmp(word, "allow") == 0) {
		rule.allow = true;
	} else if (word == NULL || strcasecmp(word, "deny") != 0) {
		return refuse(&p, "a rule begins with 'allow' or 'deny'");
	}
	while (rv == 0 && (word = next_word(&p)) != NULL) {
		rv = take_selector(&p, &rule, word);
	}
	if (rv == 0) {
		*out = rule;
	}
	return rv;
}

bool mt_rule_equal(const struct mt_rule *a, const struct mt_rule *b)
{
	return a->allow == b->allow && a->protocol == b->protocol &&
	       strcmp(a->client, b->client) == 0 && strcmp(a->host, b->host) == 0 &&
	       mt_addr_equal(&a->net.addr, &b->net.addr) && a->net.bits == b->net.bits &&
	       a->port_first == b->port_first && a->port_last == b->port_last;
}

const char *mt_rule_format(const struct mt_rule *rule, char *buf, size_t cap)
{
	static const char *const protocols[] = {"", " tcp", " udp"};
	bool bare = strpbrk(rule->host, ".*") != NULL;
	char net[MT_NET_TEXT_MAX] = "";
	char ports[16] = "";

	assert(cap >= MT_RULE_TEXT_MAX);
	/* All of these fit. */
	if (rule->net.addr.len != 0) {
		(void)mt_net_format(&rule->net, net, sizeof(net));
	}
	if (rule->port_last > rule->port_first) {
		(void)snprintf(ports, sizeof(ports), "%u-%u", rule->port_first, rule->port_last);
	} else if (rule->port_first != 0) {
		(void)snprintf(ports, sizeof(ports), "%u", rule->port_first);
	}
	(void)snprintf(buf, cap, "%s%s%s%s%s%s%s%s%s%s", rule->allow ? "allow" : "deny",
		rule->client[0] != '\0' ? " client " : "", rule->client, protocols[rule->protocol],
		rule->host[0] == '\0' ? ""
		: bare                ? " "
				      : " host ",
		rule->host, net[0] != '\0' ? " net " : "", net, ports[0] != '\0' ? " port " : "",
		ports);
	return buf;
}
