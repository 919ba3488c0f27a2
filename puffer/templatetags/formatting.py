"""Template filters for numbers, costs and times, such as {{ answer.milliseconds|duration }}."""

from datetime import datetime

from django import template

from puffer.text.formatting import dollars, duration, moment, whole

register = template.Library()
for write in (dollars, duration, moment, whole):
    register.filter(write.__name__, write)


@register.filter
def to_the_second(when: datetime) -> str:
    return moment(when, seconds=True)
