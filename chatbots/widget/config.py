"""The widget's configuration, its HTML element, and the addresses of its files.

The configuration is public and the same for all visitors: no instructions, model, key or session.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.utils.html import format_html

from chatbots.models import Chatbot
from chatbots.widget.labels import LABELS, direction_of, language_of
from puffer.api import path_below_site

STYLES, SCRIPT, LOADER = "widget.css", "widget.js", "embed.js"
MAX_MESSAGE_LENGTH = 8000  # characters of a visitor's question


def widget_config(bot: Chatbot, site: str, language: str = "") -> dict[str, Any]:
    """Return the configuration. `site` is this server's address without a trailing slash.

    `language` is the page's language, used if the bot has none set.
    """
    tag = bot.language or language
    language = language_of(tag)
    return {
        "botId": bot.pk,
        "siteUrl": site,
        "apiUrl": f"{site}/wp-json/aipkit/v1/chatbots/{bot.pk}",
        "assetUrls": {"css": asset_url(site, STYLES), "mainJs": asset_url(site, SCRIPT)},
        "headerName": bot.name,
        "headerAvatarUrl": bot.header_avatar_url,
        "headerOnlineText": bot.header_online_text,
        "footerText": bot.footer_text,
        "theme": bot.theme,
        "customThemePresetKey": bot.theme_preset_key,
        "customThemeSettings": {
            "primaryColor": bot.primary_color,
            "secondaryColor": bot.secondary_color,
            "accentColor": bot.accent_color,
            "fontFamily": bot.font_family,
            "bubbleRadius": bot.bubble_radius,
            "containerMaxWidth": bot.container_max_width,
            "containerHeight": bot.container_height,
            "popupWidth": bot.popup_width,
            "popupHeight": bot.popup_height,
        },
        "popupEnabled": bot.popup_enabled,
        "popupPosition": bot.popup_position,
        "popupDelay": bot.popup_delay,
        "popupIconStyle": bot.popup_icon_style,
        "popupIconValue": bot.popup_icon_value,
        "popupIconSize": bot.popup_icon_size,
        "popupLabelEnabled": bot.popup_label_enabled and bool(bot.popup_label_text),
        "popupLabelText": bot.popup_label_text,
        "popupLabelMode": bot.popup_label_mode,
        "popupLabelDelaySeconds": bot.popup_label_delay_seconds,
        "popupLabelAutoHideSeconds": bot.popup_label_auto_hide_seconds,
        "popupLabelDismissible": bot.popup_label_dismissible,
        "popupLabelFrequency": bot.popup_label_frequency,
        "popupLabelShowOnMobile": bot.popup_label_show_on_mobile,
        "popupLabelShowOnDesktop": bot.popup_label_show_on_desktop,
        "enableFullscreen": bot.enable_fullscreen,
        "enableDownload": bot.enable_download,
        "enableCopyButton": bot.enable_copy_button,
        "enableFeedback": bot.enable_feedback,
        "enableSidebar": bot.enable_conversation_sidebar,
        "enableStarters": bot.enable_conversation_starters,
        "starters": bot.conversation_starters if bot.enable_conversation_starters else [],
        "requireConsentCompliance": bot.enable_consent_compliance,
        "showSources": bot.show_sources,
        "maxMessageLength": MAX_MESSAGE_LENGTH,
        "language": language,
        "direction": direction_of(tag),
        "preview": False,
        "text": LABELS[language] | custom_labels(bot),
    }


def custom_labels(bot: Chatbot) -> dict[str, str]:
    """Return the texts that the bot's owner has set, which replace the default labels."""
    labels = {
        "initialGreeting": bot.greeting,
        "initialSubgreeting": bot.subgreeting,
        "typeMessage": bot.input_placeholder,
        "consentTitle": bot.consent_title,
        "consentMessage": bot.consent_message,
        "consentButton": bot.consent_button,
    }
    return {label: text for label, text in labels.items() if text}


def widget_html(config: dict[str, Any]) -> str:
    """Return the element that the widget's script renders, with its configuration in an attribute."""
    kind = "popup_wrapper" if config["popupEnabled"] else "chat_container"
    return format_html(
        '<puffer-chat id="aipkit_{kind}_{bot}" class="aipkit_chatbot aipkit_{kind}" data-bot-id="{bot}"'
        ' data-config="{config}"></puffer-chat>',
        kind=kind,
        bot=config["botId"],
        config=json.dumps(config, ensure_ascii=False, separators=(",", ":")),
    )


def snippet(bot: Chatbot, site: str) -> str:
    """Return the HTML that a site's owner pastes into its pages."""
    return (
        f'<div id="aipkit-chatbot-container-{bot.pk}"></div>\n'
        f'<script src="{site}/embed.js" data-bot-id="{bot.pk}" data-wp-site="{site}" defer></script>'
    )


def asset_url(site: str, name: str) -> str:
    """Return a file's address with its version, so that browsers and proxies can cache it for long."""
    return site + path_below_site("widget_file", version_of(name), name)


def version_of(name: str) -> str:
    return _digest(name) if not settings.DEBUG else _digest.__wrapped__(name)


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(read_asset(name)).hexdigest()[:12]


def read_asset(name: str) -> bytes:
    path = finders.find(f"chatbots/{name}")
    assert isinstance(path, str), name
    return Path(path).read_bytes()
