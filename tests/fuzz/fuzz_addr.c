/* links: proto/wire/addr.c */
#include "proto/wire/addr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_addr(const char *text)
{
	char buf[MT_ADDR_TEXT_MAX];
	struct mt_addr addr, again;

	if (mt_addr_parse(&addr, text) == 0) {
		mt_addr_format(&addr, buf, sizeof(buf));
		assert(mt_addr_parse(&again, buf) == 0 && mt_addr_equal(&addr, &again));
		assert(mt_addr_hash(&addr, 7) == mt_addr_hash(&again, 7));
		assert(mt_addr_from_sockaddr(&again, &addr.sa, addr.len) == 0);
		assert(mt_addr_equal(&addr, &again));
	}
}

/* Whatever the system's own functions take for an address must not pass as a name. */
static void check_host(const char *text, size_t len)
{
	char buf[MT_ADDR_TEXT_MAX];
	enum mt_host_kind kind = MT_HOST_NAME, again_kind;
	struct mt_addr addr, again;
	struct in_addr v4;
	struct in6_addr v6;
	bool is_text = memchr(text, '\0', len) == NULL;
	int err = mt_host_parse(&kind, &addr, text, len, 80);

	assert(err == 0 || err == MT_E_MALFORMED);
	if (err == 0) {
		assert(is_text && len > 0 && len <= 254 && memchr(text, '%', len) == NULL);
	}
	if (err == 0 && kind == MT_HOST_NAME) {
		assert(inet_aton(text, &v4) == 0);
		assert(inet_pton(AF_INET, text, &v4) != 1 && inet_pton(AF_INET6, text, &v6) != 1);
	} else if (err == 0) {
		mt_addr_format_host(&addr, buf, sizeof(buf));
		assert(mt_host_parse(&again_kind, &again, buf, strlen(buf), 80) == 0);
		assert(again_kind == kind && mt_addr_equal(&addr, &again));
		(void)mt_addr_scope(&addr); /* must only not crash */
	}
	if (is_text && inet_pton(AF_INET, text, &v4) == 1) {
		assert(err == 0 && kind == MT_HOST_IPV4);
		assert(v4.s_addr == addr.v4.sin_addr.s_addr);
	}
	if (is_text && inet_pton(AF_INET6, text, &v6) == 1) {
		assert(err == 0 && kind == MT_HOST_IPV6);
	}
}

static void check_split(const char *text, size_t len)
{
	const char *host = NULL;
	size_t host_len = 0;
	uint16_t port = 0;
	enum mt_host_kind kind;
	struct mt_addr addr;

	if (mt_host_split(&host, &host_len, &port, text, len) == 0) {
		assert(host >= text && host + host_len <= text + len);
		assert(mt_host_parse(&kind, &addr, host, host_len, port) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	assert(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	check_addr(text);
	check_host(text, size);
	check_split(text, size);
	free(text);
	return 0;
}
