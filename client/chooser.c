#include "client/chooser.h"

#include <stddef.h>
#include <string.h>

bool mt_choice_parse(enum mt_choice *out, const char *text)
{
	static const char *const names[] = {"auto", "quic", "tls"}; /* as in the enum */

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			*out = (enum mt_choice)i;
			return true;
		}
	}
	return false;
}

const char *mt_transport_text(enum mt_transport transport)
{
	switch (transport) {
	case MT_TRANSPORT_NONE: return "none";
	case MT_TRANSPORT_QUIC: return "quic";
	case MT_TRANSPORT_TLS: return "tls";
	}
	return "none";
}

static uint64_t doubled(uint64_t first, unsigned times, uint64_t max)
{
	while (times-- > 0 && first < max) {
		first *= 2;
	}
	return first < max ? first : max;
}

static enum mt_transport choose(const struct mt_chooser *c, uint64_t now_ms)
{
	const bool quic = c->choice != MT_CHOICE_TLS && c->quic != MT_HEALTH_DOWN;
	const bool tls = c->choice != MT_CHOICE_QUIC && c->tls_up;

	if (!tls) {
		return quic ? MT_TRANSPORT_QUIC : MT_TRANSPORT_NONE;
	}
	if (quic && c->quic == MT_HEALTH_GOOD &&
		(c->used == MT_TRANSPORT_QUIC || now_ms >= c->quic_ms)) {
		return MT_TRANSPORT_QUIC;
	}
	return MT_TRANSPORT_TLS;
}

/* Brings `used` in line with what is known. A return to QUIC is remembered even when nothing is up
 * for a while in between.
 */
static void settle(struct mt_chooser *c, uint64_t now_ms)
{
	enum mt_transport next = choose(c, now_ms);

	if (next == c->used) {
		if (next == MT_TRANSPORT_QUIC && now_ms - c->since_ms >= MT_CHOOSER_RELAPSE_MS) {
			c->relapses = 0;
			c->returned = false;
		}
		return;
	}
	if (next == MT_TRANSPORT_TLS) {
		c->quic_ms = now_ms;
		if (c->returned && now_ms - c->since_ms < MT_CHOOSER_RELAPSE_MS) {
			c->quic_ms += doubled(
				MT_CHOOSER_PENALTY_MS, c->relapses, MT_CHOOSER_PENALTY_MAX_MS);
			c->relapses++;
		}
		c->returned = false;
	} else if (next == MT_TRANSPORT_QUIC && c->used == MT_TRANSPORT_TLS) {
		c->returned = true;
	}
	if (next != MT_TRANSPORT_NONE) {
		c->since_ms = now_ms;
	}
	c->used = next;
}

void mt_chooser_init(struct mt_chooser *c, enum mt_choice choice, uint64_t now_ms)
{
	*c = (struct mt_chooser){.choice = choice, .missed_ms = now_ms, .since_ms = now_ms};
}

void mt_chooser_set_quic(struct mt_chooser *c, enum mt_health health, uint64_t now_ms)
{
	if (c->quic == MT_HEALTH_GOOD && health != MT_HEALTH_GOOD) {
		c->missed_ms = now_ms;
	}
	if (health == MT_HEALTH_GOOD) {
		c->quic_failed = false;
		c->probes = 0;
	}
	c->quic = health;
	settle(c, now_ms);
}

void mt_chooser_quic_failed(struct mt_chooser *c, uint64_t now_ms)
{
	settle(c, now_ms);
	c->quic_failed = true;
	if (c->used == MT_TRANSPORT_TLS) {
		uint64_t next_ms =
			now_ms + doubled(MT_CHOOSER_PROBE_MS, c->probes++, MT_CHOOSER_PROBE_MAX_MS);

		c->quic_ms = c->quic_ms > next_ms ? c->quic_ms : next_ms;
	}
}

void mt_chooser_set_tls(struct mt_chooser *c, bool up, uint64_t now_ms)
{
	if (up) {
		c->tls_failures = 0;
	}
	c->tls_up = up;
	settle(c, now_ms);
}

void mt_chooser_tls_failed(struct mt_chooser *c, uint64_t now_ms)
{
	c->tls_up = false;
	c->tls_ms = now_ms + doubled(MT_CHOOSER_RETRY_MS, c->tls_failures, MT_CHOOSER_RETRY_MAX_MS);
	c->tls_failures++;
	settle(c, now_ms);
}

void mt_chooser_hurry(struct mt_chooser *c, uint64_t now_ms)
{
	settle(c, now_ms);
	c->probes = 0;
	c->tls_failures = 0;
	if (c->quic_ms > now_ms + MT_CHOOSER_PROBE_MS) {
		c->quic_ms = now_ms + MT_CHOOSER_PROBE_MS;
	}
	if (c->tls_ms > now_ms + MT_CHOOSER_RETRY_MS) {
		c->tls_ms = now_ms + MT_CHOOSER_RETRY_MS;
	}
}

enum mt_transport mt_chooser_transport(struct mt_chooser *c, uint64_t now_ms)
{
	settle(c, now_ms);
	return c->used;
}

bool mt_chooser_wants_quic(struct mt_chooser *c, uint64_t now_ms)
{
	settle(c, now_ms);
	if (c->choice == MT_CHOICE_TLS) {
		return false;
	}
	return c->used != MT_TRANSPORT_TLS || now_ms >= c->quic_ms;
}

bool mt_chooser_wants_tls(struct mt_chooser *c, uint64_t now_ms)
{
	settle(c, now_ms);
	if (c->choice != MT_CHOICE_AUTO) {
		return c->choice == MT_CHOICE_TLS;
	}
	if (c->used == MT_TRANSPORT_TLS || c->quic == MT_HEALTH_DOUBTFUL) {
		return true;
	}
	if (c->quic == MT_HEALTH_GOOD) {
		return c->tls_up && now_ms - c->since_ms < MT_CHOOSER_LINGER_MS;
	}
	return c->quic_failed || now_ms - c->missed_ms >= MT_CHOOSER_HEAD_START_MS;
}

bool mt_chooser_may_try_tls(struct mt_chooser *c, uint64_t now_ms)
{
	return mt_chooser_wants_tls(c, now_ms) && now_ms >= c->tls_ms;
}

static uint64_t sooner(uint64_t next_ms, uint64_t when_ms, uint64_t now_ms)
{
	return when_ms > now_ms && when_ms < next_ms ? when_ms : next_ms;
}

uint64_t mt_chooser_next_ms(struct mt_chooser *c, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;
	bool wants_tls = mt_chooser_wants_tls(c, now_ms);

	if (c->choice == MT_CHOICE_QUIC) {
		return next_ms;
	}
	if (wants_tls && !c->tls_up) {
		next_ms = sooner(next_ms, c->tls_ms, now_ms);
	}
	if (c->choice == MT_CHOICE_TLS) {
		return next_ms;
	}
	if (c->used == MT_TRANSPORT_TLS) {
		next_ms = sooner(next_ms, c->quic_ms, now_ms);
	} else if (c->quic == MT_HEALTH_DOWN && !wants_tls) {
		next_ms = sooner(next_ms, c->missed_ms + MT_CHOOSER_HEAD_START_MS, now_ms);
	} else if (c->quic == MT_HEALTH_GOOD && wants_tls) {
		next_ms = sooner(next_ms, c->since_ms + MT_CHOOSER_LINGER_MS, now_ms);
	}
	return next_ms;
}
