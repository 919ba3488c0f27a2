"""How a chatbot's widget looks and greets: settings of a chatbot, in a file of their own for there are many."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

MAX_STARTERS = 6
STARTERS = ["What can you do?", "Tell me a fun fact"]

validate_color = RegexValidator(r"\A#[0-9A-Fa-f]{6}\Z", "A color is written as #0B5FFF.")


def default_starters() -> list[str]:
    return list(STARTERS)


def validate_starters(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(line, str) and line.strip() for line in value):
        raise ValidationError("It must be a list of texts.")
    if len(value) > MAX_STARTERS or any(len(line) > 200 for line in value):
        raise ValidationError(f"At most {MAX_STARTERS} lines of at most 200 characters.")


def validate_icon(value: str) -> None:
    if value not in ThemeSettings.ICONS and not value.startswith("https://"):
        raise ValidationError(f"One of {', '.join(ThemeSettings.ICONS)}, or an address that begins with https://.")


def validate_image_address(value: str) -> None:
    if value and not value.startswith("https://"):
        raise ValidationError("The address of an image begins with https://.")


class ThemeSettings(models.Model):
    """Empty texts are said in the widget's language."""

    ICONS = ("chat-bubble", "spark", "plus", "question-mark")

    class Theme(models.TextChoices):
        AUTO = "auto", "as the visitor's device"
        LIGHT = "light", "light"
        DARK = "dark", "dark"
        CUSTOM = "custom", "own colors"
        CHATGPT = "chatgpt", "ChatGPT"

    class Preset(models.TextChoices):
        OCEAN = "ocean", "ocean"
        LAGOON = "lagoon", "lagoon"
        FOREST = "forest", "forest"
        EMBER = "ember", "ember"
        ROSE = "rose", "rose"
        BERRY = "berry", "berry"
        MIDNIGHT = "midnight", "midnight"
        CITRINE = "citrine", "citrine"

    class Position(models.TextChoices):
        BOTTOM_RIGHT = "bottom-right", "bottom right"
        BOTTOM_LEFT = "bottom-left", "bottom left"
        TOP_RIGHT = "top-right", "top right"
        TOP_LEFT = "top-left", "top left"

    class IconStyle(models.TextChoices):
        CIRCLE = "circle", "circle"
        SQUARE = "square", "square"
        NONE = "none", "none"

    class Size(models.TextChoices):
        SMALL = "small", "small"
        MEDIUM = "medium", "medium"
        LARGE = "large", "large"
        XLARGE = "xlarge", "extra large"

    class LabelMode(models.TextChoices):
        ALWAYS = "always", "always"
        ON_DELAY = "on_delay", "after a while"
        UNTIL_OPEN = "until_open", "until the chat is opened"
        UNTIL_DISMISSED = "until_dismissed", "until it is dismissed"

    class LabelFrequency(models.TextChoices):
        ALWAYS = "always", "on every page"
        ONCE_PER_SESSION = "once_per_session", "once per session"
        ONCE_PER_VISITOR = "once_per_visitor", "once per visitor"

    class Language(models.TextChoices):
        EN = "en", "English"
        DE = "de", "German"
        FR = "fr", "French"
        ES = "es", "Spanish"
        TR = "tr", "Turkish"
        AR = "ar", "Arabic"

    language = models.CharField(
        max_length=2, choices=Language.choices, blank=True, help_text="Of the widget's own words. Empty: the page's."
    )
    greeting = models.CharField(max_length=200, blank=True, help_text="Empty: “Hello there!” in the widget's language.")
    subgreeting = models.CharField(max_length=200, blank=True)
    input_placeholder = models.CharField(max_length=200, blank=True)
    enable_conversation_starters = models.BooleanField("show starters", default=True)
    conversation_starters = models.JSONField(
        "starters", default=default_starters, blank=True, validators=[validate_starters],
        help_text=f"Questions to begin with, one on each line, at most {MAX_STARTERS}.",
    )  # fmt: skip
    header_avatar_url = models.CharField(
        "avatar", max_length=500, blank=True, validators=[validate_image_address], help_text="The address of an image."
    )
    header_online_text = models.CharField("line under the name", max_length=100, blank=True, default="Online")
    footer_text = models.CharField(max_length=500, blank=True, help_text="Plain text below the chat.")

    theme = models.CharField(max_length=10, choices=Theme.choices, default=Theme.CUSTOM)
    theme_preset_key = models.CharField(
        "preset", max_length=20, choices=Preset.choices, default=Preset.OCEAN, blank=True,
        help_text="Of the own colors. Empty: the three below.",
    )  # fmt: skip
    primary_color = models.CharField(max_length=7, default="#0B5FFF", validators=[validate_color])
    secondary_color = models.CharField(max_length=7, default="#F1F5FF", validators=[validate_color])
    accent_color = models.CharField(max_length=7, default="#111111", validators=[validate_color])
    font_family = models.CharField(
        max_length=200,
        default="inherit",
        validators=[RegexValidator(r"\A[\w ,'\"-]+\Z", "Names of fonts, with commas.")],
    )
    bubble_radius = models.PositiveSmallIntegerField(default=16, validators=[MaxValueValidator(40)])
    container_max_width = models.PositiveSmallIntegerField(
        default=896, validators=[MinValueValidator(240), MaxValueValidator(2000)]
    )
    container_height = models.PositiveSmallIntegerField(
        default=620, validators=[MinValueValidator(320), MaxValueValidator(2000)]
    )
    popup_width = models.PositiveSmallIntegerField(
        default=380, validators=[MinValueValidator(240), MaxValueValidator(1000)]
    )
    popup_height = models.PositiveSmallIntegerField(
        default=620, validators=[MinValueValidator(320), MaxValueValidator(2000)]
    )

    enable_fullscreen = models.BooleanField("fullscreen button", default=True)
    enable_download = models.BooleanField("transcript download", default=False)
    enable_copy_button = models.BooleanField("copy button", default=True)
    enable_feedback = models.BooleanField("thumbs up and down", default=True)
    enable_conversation_sidebar = models.BooleanField("list of earlier chats", default=False)

    popup_enabled = models.BooleanField(
        "popup",
        default=True,
        help_text="A button in the corner opens the chat. Otherwise it stands in the page.",
    )
    popup_position = models.CharField(max_length=12, choices=Position.choices, default=Position.BOTTOM_RIGHT)
    popup_delay = models.PositiveSmallIntegerField(
        default=0, validators=[MaxValueValidator(3600)], help_text="Seconds before the button appears."
    )
    popup_icon_style = models.CharField(max_length=10, choices=IconStyle.choices, default=IconStyle.CIRCLE)
    popup_icon_value = models.CharField(
        "popup icon", max_length=500, default="chat-bubble", validators=[validate_icon],
        help_text=f"{', '.join(ICONS)}, or the https address of an image.",
    )  # fmt: skip
    popup_icon_size = models.CharField(max_length=10, choices=Size.choices, default=Size.MEDIUM)
    popup_label_enabled = models.BooleanField("hint", default=True)
    popup_label_text = models.CharField("hint text", max_length=200, default="Need help? Ask me!", blank=True)
    popup_label_mode = models.CharField(
        "hint appears", max_length=20, choices=LabelMode.choices, default=LabelMode.ON_DELAY
    )
    popup_label_delay_seconds = models.PositiveSmallIntegerField(
        "hint after", default=1, validators=[MaxValueValidator(3600)], help_text="Seconds."
    )
    popup_label_auto_hide_seconds = models.PositiveSmallIntegerField(
        "hint hides after", default=0, validators=[MaxValueValidator(3600)], help_text="Seconds. 0: never."
    )
    popup_label_dismissible = models.BooleanField("hint can be dismissed", default=True)
    popup_label_frequency = models.CharField(
        "hint frequency", max_length=20, choices=LabelFrequency.choices, default=LabelFrequency.ONCE_PER_VISITOR
    )
    popup_label_show_on_mobile = models.BooleanField("hint on phones", default=True)
    popup_label_show_on_desktop = models.BooleanField("hint on large screens", default=True)

    class Meta:
        abstract = True
