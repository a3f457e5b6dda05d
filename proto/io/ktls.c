#include "proto/io/ktls.h"

#include "proto/wire/encode.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

#define NONCE_LEN 12 /* of every TLS 1.3 cipher that both sides know: salt and iv of the kernel */

union keys {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 gcm128;
	struct tls12_crypto_info_aes_gcm_256 gcm256;
};

const char *mt_ktls_text(enum mt_ktls_state state)
{
	switch (state) {
	case MT_KTLS_ON: return "in use";
	case MT_KTLS_NO_MODULE: return "the kernel has no TLS, or its module is not loaded";
	case MT_KTLS_CIPHER: return "the kernel does not take the connection's cipher";
	case MT_KTLS_REFUSED: return "the kernel refused the connection's keys";
	case MT_KTLS_OFF: break;
	}
	return "not asked for";
}

enum mt_ktls_state mt_ktls_probe(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool found;

	if (fd < 0) {
		return MT_KTLS_NO_MODULE;
	}
	/* Found, but of no use for a socket that is not connected. */
	found = setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) == 0 ||
		errno == ENOTCONN;
	(void)close(fd); /* nothing was sent */
	return found ? MT_KTLS_ON : MT_KTLS_NO_MODULE;
}

/* Salt, the rest of the nonce, key and sequence number, as the kernel keeps them apart. False for
 * lengths that are not of this cipher. */
static bool fill(uint8_t *salt, uint8_t *iv, uint8_t *key, size_t key_len, uint8_t *seq,
	const gnutls_datum_t *nonce, const gnutls_datum_t *secret, const uint8_t *record)
{
	if (nonce->size != NONCE_LEN || secret->size != key_len) {
		return false;
	}
	memcpy(salt, nonce->data, TLS_CIPHER_AES_GCM_128_SALT_SIZE);
	memcpy(iv, nonce->data + TLS_CIPHER_AES_GCM_128_SALT_SIZE, TLS_CIPHER_AES_GCM_128_IV_SIZE);
	memcpy(key, secret->data, key_len);
	memcpy(seq, record, TLS_CIPHER_AES_GCM_128_REC_SEQ_SIZE);
	return true;
}

/* The length of what setsockopt takes, 0 for a cipher that is not for the kernel. */
static size_t read_keys(union keys *out, gnutls_session_t session, bool receive)
{
	gnutls_datum_t mac, nonce, secret;
	uint8_t record[8];

	memset(out, 0, sizeof(*out));
	if (gnutls_protocol_get_version(session) != GNUTLS_TLS1_3 ||
		gnutls_record_get_state(session, receive, &mac, &nonce, &secret, record) != 0) {
		return 0;
	}
	out->info.version = TLS_1_3_VERSION;
	switch (gnutls_cipher_get(session)) {
	case GNUTLS_CIPHER_AES_128_GCM:
		out->info.cipher_type = TLS_CIPHER_AES_GCM_128;
		return fill(out->gcm128.salt, out->gcm128.iv, out->gcm128.key,
			       sizeof(out->gcm128.key), out->gcm128.rec_seq, &nonce, &secret,
			       record)
			       ? sizeof(out->gcm128)
			       : 0;
	case GNUTLS_CIPHER_AES_256_GCM:
		out->info.cipher_type = TLS_CIPHER_AES_GCM_256;
		return fill(out->gcm256.salt, out->gcm256.iv, out->gcm256.key,
			       sizeof(out->gcm256.key), out->gcm256.rec_seq, &nonce, &secret,
			       record)
			       ? sizeof(out->gcm256)
			       : 0;
	default: return 0;
	}
}

enum mt_ktls_state mt_ktls_install(int fd, gnutls_session_t session, bool *broken)
{
	enum mt_ktls_state state = MT_KTLS_ON;
	union keys tx, rx;
	size_t tx_len = read_keys(&tx, session, false);
	size_t rx_len = read_keys(&rx, session, true);

	*broken = false;
	if (tx_len == 0 || rx_len == 0) {
		state = MT_KTLS_CIPHER;
	} else if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) != 0) {
		/* ENOTCONN: the peer has said its end already. */
		state = errno == ENOENT ? MT_KTLS_NO_MODULE : MT_KTLS_REFUSED;
	} else if (setsockopt(fd, SOL_TLS, TLS_TX, &tx, (socklen_t)tx_len) != 0) {
		state = MT_KTLS_REFUSED;
	} else if (setsockopt(fd, SOL_TLS, TLS_RX, &rx, (socklen_t)rx_len) != 0) {
		state = MT_KTLS_REFUSED;
		*broken = true; /* the sending direction cannot be taken back */
	}
	mt_wipe(&tx, sizeof(tx));
	mt_wipe(&rx, sizeof(rx));
	return state;
}

/* What the kernel says beside a record: one byte. */
union control {
	struct cmsghdr header;
	uint8_t space[CMSG_SPACE(1)];
};

ssize_t mt_ktls_recv(int fd, void *buf, size_t len, uint8_t *type)
{
	union control control;
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	const struct cmsghdr *c;
	ssize_t got;

	do {
		got = recvmsg(fd, &msg, 0);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		return -errno;
	}
	c = CMSG_FIRSTHDR(&msg);
	if (c != NULL && c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE) {
		*type = *CMSG_DATA(c);
	} else {
		*type = got > 0 ? MT_RECORD_DATA : 0;
	}
	return got;
}

int mt_ktls_send_alert(int fd, uint8_t level, uint8_t description)
{
	uint8_t alert[2] = {level, description};
	union control control;
	struct iovec iov = {.iov_base = alert, .iov_len = sizeof(alert)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(1)};
	struct cmsghdr *c;
	ssize_t put;

	memset(&control, 0, sizeof(control));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_TLS;
	c->cmsg_type = TLS_SET_RECORD_TYPE;
	c->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(c) = MT_RECORD_ALERT;
	do {
		put = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : 0;
}

static int records_of(int fd, int direction, uint64_t *out)
{
	union keys keys;
	socklen_t len = sizeof(keys.gcm128);
	const uint8_t *seq;
	uint64_t n = 0;

	/* The kernel wants the very length of the cipher that it has. */
	memset(&keys, 0, sizeof(keys));
	if (getsockopt(fd, SOL_TLS, direction, &keys, &len) == 0) {
		seq = keys.gcm128.rec_seq;
	} else {
		len = sizeof(keys.gcm256);
		if (getsockopt(fd, SOL_TLS, direction, &keys, &len) != 0) {
			return -errno;
		}
		seq = keys.gcm256.rec_seq;
	}
	for (size_t i = 0; i < TLS_CIPHER_AES_GCM_128_REC_SEQ_SIZE; i++) {
		n = n << 8 | seq[i];
	}
	mt_wipe(&keys, sizeof(keys));
	*out = n;
	return 0;
}

int mt_ktls_records(int fd, uint64_t *sent, uint64_t *received)
{
	int rv = records_of(fd, TLS_TX, sent);

	return rv == 0 ? records_of(fd, TLS_RX, received) : rv;
}
