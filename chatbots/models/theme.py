"""A chatbot's theme settings: how its widget looks, and what it says."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

MAX_STARTERS = 6
MAX_STARTER_LENGTH = 200  # characters
STARTERS = ["What can you do?", "Tell me a fun fact"]

validate_color = RegexValidator(r"\A#[0-9A-Fa-f]{6}\Z", _("Enter a color such as #0B5FFF."))
validate_fonts = RegexValidator(r"\A[\w ,'\"-]+\Z", _("Enter font names, separated by commas."))


def default_starters() -> list[str]:
    return list(STARTERS)


def validate_starters(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(line, str) and line.strip() for line in value):
        raise ValidationError(_("Enter a list of texts."))
    if len(value) > MAX_STARTERS or any(len(line) > MAX_STARTER_LENGTH for line in value):
        raise ValidationError(
            _("Enter at most %(lines)d questions of at most %(length)d characters."),
            params={"lines": MAX_STARTERS, "length": MAX_STARTER_LENGTH},
        )


def validate_icon(value: str) -> None:
    if value not in ThemeSettings.ICONS and not value.startswith("https://"):
        raise ValidationError(
            _("Enter one of %(icons)s, or an image address that begins with https://."),
            params={"icons": ", ".join(ThemeSettings.ICONS)},
        )


def validate_image_address(value: str) -> None:
    if value and not value.startswith("https://"):
        raise ValidationError(_("Enter an image address that begins with https://."))


class ThemeSettings(models.Model):
    """A chatbot's colors, texts, sizes and buttons. Empty texts fall back to defaults in the widget's language."""

    ICONS = ("chat-bubble", "spark", "plus", "question-mark")

    class Theme(models.TextChoices):
        AUTO = "auto", _("Same as the visitor's device")
        LIGHT = "light", _("Light")
        DARK = "dark", _("Dark")
        CUSTOM = "custom", _("Custom colors")
        CHATGPT = "chatgpt", "ChatGPT"

    class Preset(models.TextChoices):
        OCEAN = "ocean", _("Ocean")
        LAGOON = "lagoon", _("Lagoon")
        FOREST = "forest", _("Forest")
        EMBER = "ember", _("Ember")
        ROSE = "rose", _("Rose")
        BERRY = "berry", _("Berry")
        MIDNIGHT = "midnight", _("Midnight")
        CITRINE = "citrine", _("Citrine")

    class Position(models.TextChoices):
        BOTTOM_RIGHT = "bottom-right", _("Bottom right")
        BOTTOM_LEFT = "bottom-left", _("Bottom left")
        TOP_RIGHT = "top-right", _("Top right")
        TOP_LEFT = "top-left", _("Top left")

    class IconStyle(models.TextChoices):
        CIRCLE = "circle", _("Circle")
        SQUARE = "square", _("Square")
        NONE = "none", _("None")

    class Size(models.TextChoices):
        SMALL = "small", _("Small")
        MEDIUM = "medium", _("Medium")
        LARGE = "large", _("Large")
        XLARGE = "xlarge", _("Extra large")

    class LabelMode(models.TextChoices):
        ALWAYS = "always", _("Always")
        ON_DELAY = "on_delay", _("After a delay")
        UNTIL_OPEN = "until_open", _("Until the chat is opened")
        UNTIL_DISMISSED = "until_dismissed", _("Until it is dismissed")

    class LabelFrequency(models.TextChoices):
        ALWAYS = "always", _("On every page")
        ONCE_PER_SESSION = "once_per_session", _("Once per session")
        ONCE_PER_VISITOR = "once_per_visitor", _("Once per visitor")

    class Language(models.TextChoices):
        EN = "en", _("English")
        DE = "de", _("German")
        FR = "fr", _("French")
        ES = "es", _("Spanish")
        TR = "tr", _("Turkish")
        AR = "ar", _("Arabic")

    language = models.CharField(
        _("language"), max_length=2, choices=Language.choices, blank=True,
        help_text=_("Language of the widget's buttons. Leave empty to follow the page."),
    )  # fmt: skip
    greeting = models.CharField(
        _("greeting"), max_length=200, blank=True,
        help_text=_("Leave empty to use “Hello there!” in the widget's language."),
    )  # fmt: skip
    subgreeting = models.CharField(
        _("subgreeting"), max_length=200, blank=True,
        help_text=_("A smaller line below the greeting. Leave empty for the default."),
    )  # fmt: skip
    input_placeholder = models.CharField(
        _("input placeholder"), max_length=200, blank=True,
        help_text=_("Shown in the empty message box. Leave empty for the default."),
    )  # fmt: skip
    enable_conversation_starters = models.BooleanField(_("show starters"), default=True)
    conversation_starters = models.JSONField(
        _("starters"), default=default_starters, blank=True, validators=[validate_starters],
        help_text=_("Suggested questions, one per line, up to 6."),
    )  # fmt: skip
    header_avatar_url = models.CharField(
        _("avatar"), max_length=500, blank=True, validators=[validate_image_address],
        help_text=_("The https address of an image. Leave empty for none."),
    )  # fmt: skip
    header_online_text = models.CharField(
        _("status line"), max_length=100, blank=True, default="Online",
        help_text=_("Shown below the chatbot's name. Leave empty to hide."),
    )  # fmt: skip
    footer_text = models.CharField(
        _("footer text"), max_length=500, blank=True, help_text=_("Plain text below the chat. Leave empty to hide.")
    )

    theme = models.CharField(
        _("theme"), max_length=10, choices=Theme.choices, default=Theme.CUSTOM,
        help_text=_("For custom colors, we derive light and dark versions and keep text readable."),
    )  # fmt: skip
    theme_preset_key = models.CharField(
        _("preset"), max_length=20, choices=Preset.choices, default=Preset.OCEAN, blank=True,
        help_text=_("Preset for the custom theme. Leave empty to use the three colors below."),
    )  # fmt: skip
    primary_color = models.CharField(
        _("primary color"), max_length=7, default="#0B5FFF", validators=[validate_color],
        help_text=_("Header, buttons and the visitor's messages."),
    )  # fmt: skip
    secondary_color = models.CharField(
        _("secondary color"), max_length=7, default="#F1F5FF", validators=[validate_color],
        help_text=_("The chatbot's messages."),
    )  # fmt: skip
    accent_color = models.CharField(
        _("accent color"), max_length=7, default="#111111", validators=[validate_color], help_text=_("Links.")
    )
    font_family = models.CharField(
        _("font"), max_length=200, default="inherit", validators=[validate_fonts],
        help_text=_("“inherit” uses your page's font."),
    )  # fmt: skip
    bubble_radius = models.PositiveSmallIntegerField(
        _("corner radius"), default=16, validators=[MaxValueValidator(40)], help_text=_("Pixels. 0: square corners.")
    )
    container_max_width = models.PositiveSmallIntegerField(
        _("chat width"), default=896, validators=[MinValueValidator(240), MaxValueValidator(2000)],
        help_text=_("Maximum width in pixels when the chat is part of the page."),
    )  # fmt: skip
    container_height = models.PositiveSmallIntegerField(
        _("chat height"), default=620, validators=[MinValueValidator(320), MaxValueValidator(2000)],
        help_text=_("Height in pixels when the chat is part of the page."),
    )  # fmt: skip
    popup_width = models.PositiveSmallIntegerField(
        _("popup width"), default=380, validators=[MinValueValidator(240), MaxValueValidator(1000)],
        help_text=_("Pixels. On phones the chat fills the screen."),
    )  # fmt: skip
    popup_height = models.PositiveSmallIntegerField(
        _("popup height"), default=620, validators=[MinValueValidator(320), MaxValueValidator(2000)],
        help_text=_("Pixels. The chat is never taller than the window."),
    )  # fmt: skip

    enable_fullscreen = models.BooleanField(_("fullscreen button"), default=True)
    enable_download = models.BooleanField(_("transcript download"), default=False)
    enable_copy_button = models.BooleanField(_("copy button"), default=True)
    enable_feedback = models.BooleanField(_("thumbs up and down"), default=True)
    enable_conversation_sidebar = models.BooleanField(_("list of earlier chats"), default=False)

    popup_enabled = models.BooleanField(
        _("popup"), default=True,
        help_text=_(
            "A button in the corner of the page opens the chat. When off, the chat appears where the snippet is."
        ),
    )  # fmt: skip
    popup_position = models.CharField(
        _("popup position"), max_length=12, choices=Position.choices, default=Position.BOTTOM_RIGHT
    )
    popup_delay = models.PositiveSmallIntegerField(
        _("popup delay"), default=0, validators=[MaxValueValidator(3600)],
        help_text=_("Seconds before the button appears."),
    )  # fmt: skip
    popup_icon_style = models.CharField(
        _("popup icon style"), max_length=10, choices=IconStyle.choices, default=IconStyle.CIRCLE
    )
    popup_icon_value = models.CharField(
        _("popup icon"), max_length=500, default="chat-bubble", validators=[validate_icon],
        help_text=_("chat-bubble, spark, plus, question-mark, or the https address of an image."),
    )  # fmt: skip
    popup_icon_size = models.CharField(_("popup icon size"), max_length=10, choices=Size.choices, default=Size.MEDIUM)
    popup_label_enabled = models.BooleanField(
        _("hint"), default=True, help_text=_("A speech bubble next to the button.")
    )
    popup_label_text = models.CharField(_("hint text"), max_length=200, default="Need help? Ask me!", blank=True)
    popup_label_mode = models.CharField(
        _("hint appears"), max_length=20, choices=LabelMode.choices, default=LabelMode.ON_DELAY
    )
    popup_label_delay_seconds = models.PositiveSmallIntegerField(
        _("hint after"), default=1, validators=[MaxValueValidator(3600)], help_text=_("Seconds.")
    )
    popup_label_auto_hide_seconds = models.PositiveSmallIntegerField(
        _("hint hides after"), default=0, validators=[MaxValueValidator(3600)], help_text=_("Seconds. 0: never.")
    )
    popup_label_dismissible = models.BooleanField(_("hint can be dismissed"), default=True)
    popup_label_frequency = models.CharField(
        _("hint frequency"), max_length=20, choices=LabelFrequency.choices, default=LabelFrequency.ONCE_PER_VISITOR
    )
    popup_label_show_on_mobile = models.BooleanField(_("hint on phones"), default=True)
    popup_label_show_on_desktop = models.BooleanField(_("hint on large screens"), default=True)

    class Meta:
        abstract = True
