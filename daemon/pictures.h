/* Pictures of connections and clients for the HTTP endpoint, made by the control thread when HTTP
 * threads ask (web/hub.h). */
#pragma once

#include "daemon/queue.h"
#include "web/view.h"

#include <stdatomic.h>

struct mt_appliance;

struct mt_pictures {
	struct mt_appliance *appliance;
	struct mt_picture_letter {
		struct mt_message_node node;
		struct mt_pictures *pictures;
		enum mt_web_listing which;
		atomic_bool on_its_way;
	} letters[MT_WEB_LISTINGS];
};

void mt_pictures_init(struct mt_pictures *p, struct mt_appliance *a);
/* Any thread; `user` is the mt_pictures. mt_hub_publish follows. Not after the inbox was closed. */
void mt_pictures_want(void *user, enum mt_web_listing which);
