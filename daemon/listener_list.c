#include "daemon/listener_list.h"

#include "daemon/appliance.h"
#include "daemon/events.h"
#include "daemon/log.h"

#include <stdio.h>

unsigned mt_listeners_add(
	struct mt_listeners *l, const struct mt_addr *wanted, const struct mt_addr *addr)
{
	l->list[l->count++] = (struct mt_listener){
		.id = ++l->last_id, .wanted = *wanted, .addr = *addr, .state = MT_LISTENER_SERVES};
	return l->last_id;
}

size_t mt_listeners_find(const struct mt_listeners *l, const struct mt_addr *addr)
{
	size_t i = 0;

	while (i < l->count && !mt_addr_equal(&l->list[i].wanted, addr) &&
		!mt_addr_equal(&l->list[i].addr, addr)) {
		i++;
	}
	return i;
}

size_t mt_listeners_serving(const struct mt_listeners *l, struct mt_addr *out)
{
	size_t n = 0;

	for (size_t i = 0; i < l->count && n < MT_SETTING_ADDRS_MAX; i++) {
		if (l->list[i].state == MT_LISTENER_SERVES) {
			out[n++] = l->list[i].addr;
		}
	}
	return n;
}

void mt_listener_tell(
	struct mt_appliance *a, const char *protocol, const char *event, const struct mt_addr *addr)
{
	char text[MT_ADDR_TEXT_MAX];

	(void)mt_addr_format(addr, text, sizeof(text)); /* returns `text` */
	mt_log(MT_LOG_INFO, event, MT_LOG_TEXT("protocol", protocol), MT_LOG_TEXT("address", text));
	mt_events_add(
		&a->events, event, json_pack("{s:s, s:s}", "protocol", protocol, "address", text));
}

void mt_listener_not_taken(struct mt_appliance *a, int err, char *out, size_t cap)
{
	mt_log(MT_LOG_ERROR, "socket_not_taken", MT_LOG_TEXT("error", mt_strerror(err)));
	/* For people: cut when too long. */
	(void)snprintf(out, cap, "a worker could not take a new socket: %s; restart the daemon",
		mt_strerror(err));
	mt_appliance_post_facts(a);
}
