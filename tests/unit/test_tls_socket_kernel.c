/* links: proto/io/tls_socket.c proto/quic/tls.c proto/quic/tls_verify.c proto/quic/identity.c
 * proto/wire/encode.c proto/wire/err.c
 */
/* Records that the kernel has opened, from a kernel of our own: ktls.c is not linked. */
#include "proto/io/tls_socket.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define RECORDS_MAX 4

struct record {
	uint8_t type;
	const char *bytes;
	size_t len;
};

static struct {
	struct record records[RECORDS_MAX];
	unsigned count;
	unsigned next;
	size_t taken; /* of the next one */
	int alert;    /* that was sent; -1: none */
} kernel;

/* As the kernel does: at most one record of a kind other than payload, in pieces where `len` is
 * short. */
ssize_t mt_ktls_recv(int fd, void *buf, size_t len, uint8_t *type)
{
	const struct record *r = &kernel.records[kernel.next];
	size_t n;

	(void)fd;
	if (kernel.next == kernel.count) {
		return -EAGAIN;
	}
	n = r->len - kernel.taken < len ? r->len - kernel.taken : len;
	memcpy(buf, r->bytes + kernel.taken, n);
	*type = r->type;
	kernel.taken += n;
	if (kernel.taken == r->len) {
		kernel.next++;
		kernel.taken = 0;
	}
	return (ssize_t)n;
}

int mt_ktls_send_alert(int fd, uint8_t level, uint8_t description)
{
	(void)fd;
	(void)level;
	kernel.alert = description;
	return 0;
}

int mt_ktls_records(int fd, uint64_t *sent, uint64_t *received)
{
	(void)fd;
	*sent = *received = 0;
	return 0;
}

enum mt_ktls_state mt_ktls_install(int fd, gnutls_session_t session, bool *broken)
{
	(void)fd;
	(void)session;
	*broken = false;
	return MT_KTLS_OFF;
}

static struct mt_tls_socket established(const struct record *records, unsigned count)
{
	memset(&kernel, 0, sizeof(kernel));
	memcpy(kernel.records, records, count * sizeof(*records));
	kernel.count = count;
	kernel.alert = -1;
	return (struct mt_tls_socket){
		.fd = -1, .established = true, .ktls = MT_KTLS_ON, .alert = -1};
}

static void test_recv_payload_then_close_notify(void **state)
{
	const struct record records[] = {
		{MT_RECORD_DATA, "hello", 5}, {MT_RECORD_ALERT, "\1\0", 2}};
	struct mt_tls_socket s = established(records, 2);
	uint8_t buf[16];

	(void)state;
	assert_int_equal(mt_tls_socket_recv(&s, buf, sizeof(buf)), 5);
	assert_int_equal(mt_tls_socket_recv(&s, buf, sizeof(buf)), 0);
	assert_true(s.fin_received);
}

/* A transfer whose last buffer has room for one byte more. */
static void test_recv_close_notify_into_one_byte(void **state)
{
	const struct record records[] = {
		{MT_RECORD_DATA, "hello", 5}, {MT_RECORD_ALERT, "\1\0", 2}};
	struct mt_tls_socket s = established(records, 2);
	uint8_t buf[6];

	(void)state;
	assert_int_equal(mt_tls_socket_recv(&s, buf, 6), 5);
	assert_int_equal(mt_tls_socket_recv(&s, buf + 5, 1), 0);
	assert_true(s.fin_received);
	assert_int_equal(s.fault, MT_TLS_FAULT_NONE);
	assert_int_equal(kernel.alert, -1);
}

static void test_recv_fatal_alert_into_one_byte(void **state)
{
	const struct record records[] = {{MT_RECORD_ALERT, "\2\50", 2}};
	struct mt_tls_socket s = established(records, 1);
	uint8_t byte;

	(void)state;
	assert_int_equal(mt_tls_socket_recv(&s, &byte, 1), MT_E_TLS);
	assert_int_equal(s.fault, MT_TLS_FAULT_ALERT);
	assert_int_equal(s.alert, GNUTLS_A_HANDSHAKE_FAILURE);
}

/* An alert of one byte is none (RFC 8446, section 6). */
static void test_recv_short_alert(void **state)
{
	const struct record records[] = {{MT_RECORD_ALERT, "\1", 1}, {MT_RECORD_DATA, "x", 1}};
	struct mt_tls_socket s = established(records, 2);
	uint8_t byte;

	(void)state;
	assert_int_equal(mt_tls_socket_recv(&s, &byte, 1), MT_E_TLS);
	assert_int_equal(s.fault, MT_TLS_FAULT_PROTOCOL);
	assert_int_equal(kernel.alert, GNUTLS_A_DECODE_ERROR);
}

static void test_recv_key_update_into_one_byte(void **state)
{
	const struct record records[] = {{MT_RECORD_HANDSHAKE, "\30\0\0\1\0", 5}};
	struct mt_tls_socket s = established(records, 1);
	uint8_t byte;

	(void)state;
	assert_int_equal(mt_tls_socket_recv(&s, &byte, 1), MT_E_UNSUPPORTED);
	assert_int_equal(s.fault, MT_TLS_FAULT_REKEY);
	assert_int_equal(kernel.alert, GNUTLS_A_UNEXPECTED_MESSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recv_payload_then_close_notify),
		cmocka_unit_test(test_recv_close_notify_into_one_byte),
		cmocka_unit_test(test_recv_fatal_alert_into_one_byte),
		cmocka_unit_test(test_recv_short_alert),
		cmocka_unit_test(test_recv_key_update_into_one_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
