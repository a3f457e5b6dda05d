/* Which transport new tunnels use: a pure state machine, told what happens and asked what to do. It
 * has no clock of its own: `now_ms` never goes backwards.
 *
 * With MT_CHOICE_AUTO QUIC goes first and TLS follows after a head start, or at once when QUIC has
 * failed or is doubtful; what is there first is used, and QUIC whenever it is good. While TLS is in
 * use QUIC is tried again and again, at growing intervals. A network on which QUIC comes up and
 * fails soon afterwards gets longer ones, so that tunnels do not go to and fro.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MT_CHOOSER_HEAD_START_MS  250   /* of QUIC before TLS is tried */
#define MT_CHOOSER_PROBE_MS       1000  /* between tries of QUIC while on TLS; doubles */
#define MT_CHOOSER_PROBE_MAX_MS   12000 /* with a try's own time: back within 30 s */
#define MT_CHOOSER_RELAPSE_MS     30000 /* QUIC that fails so soon after a return has relapsed */
#define MT_CHOOSER_PENALTY_MS     4000  /* then it waits for so long; doubles */
#define MT_CHOOSER_PENALTY_MAX_MS 16000
#define MT_CHOOSER_RETRY_MS       200 /* between tries of TLS; doubles */
#define MT_CHOOSER_RETRY_MAX_MS   5000
#define MT_CHOOSER_LINGER_MS      10000 /* TLS stays up for so long after a return to QUIC */

enum mt_choice {
	MT_CHOICE_AUTO,
	MT_CHOICE_QUIC, /* never TLS */
	MT_CHOICE_TLS,  /* never QUIC */
};

enum mt_transport {
	MT_TRANSPORT_NONE,
	MT_TRANSPORT_QUIC,
	MT_TRANSPORT_TLS,
};

/* "auto", "quic", "tls"; false for anything else. */
bool mt_choice_parse(enum mt_choice *out, const char *text);
/* "none", "quic", "tls". */
const char *mt_transport_text(enum mt_transport transport);

enum mt_health {
	MT_HEALTH_DOWN,     /* no connection that can be used */
	MT_HEALTH_DOUBTFUL, /* one that owes us an answer */
	MT_HEALTH_GOOD,
};

/* In its owner's memory; the members are its own. */
struct mt_chooser {
	enum mt_choice choice;
	enum mt_health quic;
	bool tls_up;
	enum mt_transport used;
	uint64_t missed_ms; /* since when QUIC has not been good */
	bool quic_failed;   /* ... and a try has failed since */
	bool returned;      /* QUIC is in use after TLS was */
	uint64_t since_ms;  /* since when `used` is what it is */
	uint64_t quic_ms;   /* no try of QUIC, and no return to it, before */
	unsigned probes;    /* that failed in a row while on TLS */
	unsigned relapses;
	uint64_t tls_ms; /* no try of TLS before */
	unsigned tls_failures;
};

void mt_chooser_init(struct mt_chooser *c, enum mt_choice choice, uint64_t now_ms);

/* What has happened. Saying the same again does no harm, except for failures, which are counted. */
void mt_chooser_set_quic(struct mt_chooser *c, enum mt_health health, uint64_t now_ms);
void mt_chooser_quic_failed(struct mt_chooser *c, uint64_t now_ms); /* a try came to nothing */
void mt_chooser_set_tls(struct mt_chooser *c, bool up, uint64_t now_ms);
void mt_chooser_tls_failed(struct mt_chooser *c, uint64_t now_ms); /* a try, or what was up */
/* The network has changed: what failed before may work now. */
void mt_chooser_hurry(struct mt_chooser *c, uint64_t now_ms);

/* What is to be done. */
enum mt_transport mt_chooser_transport(struct mt_chooser *c, uint64_t now_ms); /* new tunnels use */
/* Whether QUIC connections may be opened. How often while nothing is up is not the chooser's. */
bool mt_chooser_wants_quic(struct mt_chooser *c, uint64_t now_ms);
/* Whether TLS should be up, and whether a try may be made when it is not. */
bool mt_chooser_wants_tls(struct mt_chooser *c, uint64_t now_ms);
bool mt_chooser_may_try_tls(struct mt_chooser *c, uint64_t now_ms);
/* When one of these answers changes by itself; UINT64_MAX: not before something happens. */
uint64_t mt_chooser_next_ms(struct mt_chooser *c, uint64_t now_ms);
