"""Recognize greetings, thanks, goodbyes and questions about the chatbot, which no document answers."""

import re

from logs.search import normalized

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
MAX_WORDS, MAX_CHARACTERS = 8, 200

# Phrases of the languages that the widget speaks, and a few more. A message of nothing else is small talk.
PHRASES = """
hello / hi / hey / hiya / howdy / greetings / good morning / good afternoon / good evening / good day / hello there
hi there / hey there / how are you / how are you doing / how do you do / nice to meet you / are you there
thanks / thank you / thank you so much / thank you very much / thanks a lot / many thanks / thx / ty / cheers / great
perfect / awesome / ok / okay / ok thanks / ok thank you / cool / got it / understood / that helped / very helpful
bye / goodbye / bye bye / see you / see you later / good night / have a nice day / have a good day
who are you / what are you / what is your name / what's your name / who am i talking to / who is this
are you a bot / are you a robot / are you human / are you a human / are you real / are you an ai / are you a person
what can you do / what can i ask / what can i ask you / how can you help / how can you help me / can you help me
what do you do / what do you know / help / help me / test
hallo / guten tag / guten morgen / guten abend / servus / moin
grüß gott / grüezi / grüß dich / tag / na / wie geht's
wie geht es dir / wie geht es ihnen / danke / danke schön
dankeschön / vielen dank / danke sehr / besten dank / super
perfekt / alles klar / verstanden / tschüss / tschüs / auf wiedersehen / bis bald / gute nacht / schönen tag noch
wer bist du / wer sind sie / was bist du / wie heißt du / wie heißen sie / bist du ein bot / bist du ein mensch
sind sie ein bot / sind sie ein mensch / bist du echt / was kannst du / was können sie / was kann ich fragen
kannst du mir helfen / können sie mir helfen / hilfe
bonjour / salut / bonsoir / coucou / allô / ça va / comment ça va / comment allez vous / merci / merci beaucoup
merci bien / parfait / super merci / au revoir / à bientôt / bonne journée / bonne nuit / bonne soirée / qui es tu
qui êtes vous / tu es qui / comment tu t'appelles
comment vous appelez vous / que peux tu faire / que pouvez vous faire
es tu un robot / êtes vous un robot / aide / pouvez vous m'aider / d'accord
hola / buenos días / buenas tardes / buenas noches / buenas / qué tal / cómo estás / cómo está / gracias
muchas gracias / mil gracias / perfecto / vale / adiós
hasta luego / hasta pronto / chao / quién eres / quién es usted
cómo te llamas / qué puedes hacer / eres un robot / eres humano / ayuda / puedes ayudarme
olá / oi / bom dia / boa tarde / boa noite / tudo bem / obrigado / obrigada / muito obrigado / tchau / até logo
quem é você / quem és tu / o que você pode fazer / o que podes fazer / ajuda
ciao / buongiorno / buonasera / salve / come stai / come va / grazie / grazie mille / molte grazie / arrivederci
a presto / chi sei / come ti chiami / cosa puoi fare / sei un robot / aiuto
hoi / goedemorgen / goedemiddag / goedenavond / goedendag / dag / hoe gaat het / dank je / dank je wel / bedankt
dank u / dank u wel / tot ziens / doei / wie ben je / wie bent u / wat kun je doen / ben je een robot / hulp
cześć / dzień dobry / dobry wieczór / witam / hej / dzięki / dziękuję / dziękuję bardzo / do widzenia / pa / na razie
kim jesteś / co potrafisz / jesteś botem / pomoc
merhaba / selam / günaydın / iyi günler / iyi akşamlar / nasılsın / nasılsınız / teşekkürler / teşekkür ederim / sağol
hoşça kal / görüşürüz / güle güle / sen kimsin / siz kimsiniz / ne yapabilirsin / yardım
привет / здравствуйте / здравствуй / добрый день / добрый вечер / доброе утро / как дела / спасибо / большое спасибо
спасибо большое / пока / до свидания / кто ты / кто вы / как тебя зовут / что ты умеешь / ты бот / ты робот / помощь
привіт / добрий день / дякую / до побачення / хто ти
مرحبا / أهلا / السلام عليكم / صباح الخير / مساء الخير / كيف حالك / شكرا / شكرا جزيلا / مع السلامة / وداعا / من أنت
ما اسمك / ماذا يمكنك أن تفعل / هل أنت روبوت / مساعدة
سلام / درود / صبح بخیر / خوبی / ممنون / متشکرم / خیلی ممنون / خداحافظ / شما کی هستید / تو کی هستی / کمک
שלום / היי / בוקר טוב / ערב טוב / מה שלומך / מה נשמע / תודה / תודה רבה / להתראות / מי אתה / מי את / מה אתה יכול לעשות
עזרה
こんにちは / こんばんは / おはよう / おはようございます
はじめまして / ありがとう / ありがとうございます / どうも / さようなら
あなたは誰ですか / あなたは誰 / お名前は / 何ができますか / ロボットですか / 助けて
你好 / 您好 / 早上好 / 下午好 / 晚上好 / 嗨 / 谢谢 / 谢谢你
多谢 / 再见 / 你是谁 / 您是谁 / 你叫什么名字 / 你能做什么 / 你是机器人吗 / 帮助
안녕하세요 / 안녕 / 감사합니다 / 고마워요
고맙습니다 / 안녕히 계세요 / 누구세요 / 당신은 누구입니까 / 무엇을 할 수 있나요
"""


def words_of(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(normalized(text).replace("\u2019", "'")))


SMALL_TALK = frozenset(words_of(phrase) for line in PHRASES.strip().splitlines() for phrase in line.split("/"))
LONGEST = max(map(len, SMALL_TALK))


def is_small_talk(message: str) -> bool:
    """Return whether the message is made of such phrases alone, such as "Hi there! Who are you?"."""
    if len(message) > MAX_CHARACTERS:
        return False
    words = words_of(message)
    if not 0 < len(words) <= MAX_WORDS or any(character.isdigit() for character in message):
        return False
    reached = {0}  # the numbers of words up to which phrases fit one after another
    for start in range(len(words)):
        if start in reached:
            reached |= {start + size for size in range(1, LONGEST + 1) if words[start : start + size] in SMALL_TALK}
    return len(words) in reached
