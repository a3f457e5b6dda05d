/* Certificates of every kind for tests. */
#pragma once

#include <stdbool.h>
#include <time.h>

struct cert_spec {
	const char *common_name;
	const char *dns;     /* NULL: none */
	const char *ip;      /* IPv4 literal; NULL: none */
	const char *purpose; /* an extended key usage; NULL: none */
	bool is_ca;
	unsigned usage;          /* key usage bits; 0: no extension */
	time_t not_before;       /* 0: an hour ago */
	time_t not_after;        /* 0: in an hour */
	unsigned rsa_bits;       /* 0: P-256 */
	const char *subject_key; /* the key to certify; NULL: a new one */
	const char *issuer_cert; /* NULL: self-signed */
	const char *issuer_key;
};

/* PEM strings for free(); fails the test when it cannot. */
void cert_make(const struct cert_spec *spec, char **cert, char **key);
/* The strings one behind the other, for free(). */
char *cert_join(const char *first, const char *second);
