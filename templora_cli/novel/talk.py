"""Phrases that no story has outside of its dialogue: talk of an assistant, notes about the text, web pages.

Each row has a literal in lower case, which is searched first because that takes a microsecond, and the
pattern that decides. `^\\W*` is the beginning of a sentence, a bare `^` that of a line. The rows of `_STRONG`
count in dialogue too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from templora_cli.novel.passage import Passage

_SORRY = (
    r"(?:i['’]m|i am) (?:very |so |really |truly )?sorry|i apologi[sz]e|apologies|my apologies|unfortunately"
)
_CANNOT = r"i (?:am unable to|am not able to|cannot|can['’]t|can not|won['’]t be able to)"
_REFUSED = (
    r"(?:assist|fulfill?|comply|provide|generate|help (?:you )?with|continue (?:this|the|writing|with)|engage"
    r"|write (?:this|that|a|an|the|any|about|such)|create (?:this|that|a|an|any|content|such)|answer that)"
)
_WORK = (
    r"(?:story|continuation|chapter|version|draft|paragraph|scene|summary|outline|example|text|passage|novel"
    r"|sentences?|list|response|answer|essay|poem|dialogue|narrative|prose|excerpt|plot|beginning|opening"
    r"|ending"
    r"|tips|ways|steps|suggestions|ideas|questions|titles|advice|pieces of advice|things to)"
)
_STRONG: Mapping[str, str] = {
    "language model": r"\b(?:as|i am|i['’]m|i was|me as) (?:just |only )?an? (?:\w+ ){0,3}language model\b",
    "as an ai": r"\bas an ai (?:language|assistant|model|chatbot|system|developed)|"
    r"\bas an ai,? i (?:do not|don['’]t|cannot|can['’]t|am not|am unable|must|have no)",
    "i'm an ai": r"\bi['’]m an ai (?:language|assistant|model|chatbot)",
    "i am an ai": r"\bi am an ai (?:language|assistant|model|chatbot)",
    "语言模型": r"(?:作为|我(?:只)?是).{0,12}语言模型",
    "作为": r"作为(?:一个|一名|一款|一位)?(?:由.{1,12}开发的)?(?:人工智能|AI|智能)"
    r"(?:语言模型|助手|模型|程序|，我|,我)",
    "sprachmodell": r"\b(?:als|bin) (?:ein )?(?:großes )?(?:KI-)?sprachmodell\b",
    "modèle de langage": r"\b(?:en tant que?|suis un) ?(?:grand )?modèle de langage\b",
    "modelo de lenguaje": r"\b(?:como|soy) (?:un )?(?:gran )?modelo de lenguaje\b",
}
_ASSISTANT: Mapping[str, str] = {
    "sorry": rf"\b(?:{_SORRY}),? (?:but )?(?:as an ai\b|{_CANNOT} {_REFUSED})",
    "apolog": rf"\b(?:{_SORRY}),? (?:but {_CANNOT} {_REFUSED}|for (?:any|the) (?:confusion|misunderstanding"
    r"|inconvenience|oversight|mistake in|error in))",
    "i can": rf"\b{_CANNOT} (?:fulfill? (?:this|that|your)|assist (?:you )?with|comply with|generate"
    rf"|provide (?:you "
    r"with|content|any|explicit)|continue (?:this|the) (?:story|text|conversation|request))",
    "unfortunately": rf"\bunfortunately,? {_CANNOT} {_REFUSED}",
    "here": r"^\W*(?:(?:certainly|sure|sure thing|absolutely|of course|great|okay|ok|no problem|alright"
    r"|got it"
    rf"|yes)\s*[!,.:—–-]+\s*)(?:here(?:['’]s| is| are| you)\b|below is)|^\W*(?:here|below)(?:['’]s| is"
    rf"| are) (?:a|an"
    rf"|the|your|my|one|some|another|how|\w+) [^\n]{{0,80}}?{_WORK}\b[^\n]{{0,80}}:\W*$|^\W*here(?:['’]s"
    rf"| is) (?:a "
    rf"possible|a revised|an updated|your|the revised|the continuation|the next|one possible|a continuation)",
    "certainly": r"^\W*certainly\s*[!,.]\s*(?:i(?:['’]d| would|['’]ll| will| can)|let me|let['’]s|below)\b",
    "sure": r"^\W*sure(?: thing)?\s*[!,.]\s*(?:i(?:['’]d be|['’]ll (?:write|help|continue|create)| can help)"
    r"|let me "
    r"(?:write|help|continue|create|try))",
    "happy to": r"\bi(?:['’]d| would|['’]m| am|['’]ll| will)(?: be)? (?:more than )?happy to (?:help|assist"
    r"|provide"
    r"|continue|write|revise|answer|elaborate|make)",
    "glad to": r"\bi(?:['’]d| would|['’]m| am|['’]ll| will)(?: be)? glad to (?:assist|provide|continue the"
    r"|revise)",
    "hope": r"\b(?:i )?hope (?:this|that|it|these|the above|you (?:enjoyed|find|found|like)(?: this| the"
    r"| it)?) ?(?:helps?"
    r"|is helpful|was helpful|are helpful|meets your|answers your|works for you|gives you|story|helpful"
    r"|continuation"
    r"|captures)",
    "let me know": r"\blet me know (?:if|whether|in the comments|what you think|how you"
    r"|which) ?(?:you(?:['’]d| would"
    r"| need| have| want|['’]re)|there['’]s anything|this (?:works|is|helps|meets)|i can|anything|below"
    r"|of (?:it|this)"
    r"|$)",
    "feel free": r"\bfeel free to (?:ask|reach|let me|modify|adjust|edit|change|continue|share|use|contact"
    r"|add|custom"
    r"|expand|leave|comment|message|provide|request|build|adapt|check)",
    "you like": r"\bwould you like (?:me )?to (?:continue|write|expand|explain|provide|create|revise|add"
    r"|elaborate"
    r"|rewrite|summari[sz]e|know more about (?:this|the)|see (?:more|another)|read more|explore)",
    "you want me": r"\bdo you want me to (?:continue|write|expand|explain|provide|create|revise|add|elaborate"
    r"|rewrite)",
    "i help": r"\bhow (?:can|may) i (?:help|assist) you (?:today|with|further|next|\?)",
    "i assist": r"\bhow (?:can|may) i assist you\b",
    "anything else": r"\b(?:is there|if there['’]s|if there is) anything else (?:i can|you(?:['’]d| would"
    r"| need| want))",
    "important to": r"\b(?:it['’]s|it is) (?:also |always )?important to (?:note that|remember that"
    r"|keep in mind"
    r"|understand that|consider|consult|seek)",
    "thank": r"\bthank(?:s| you) for (?:your (?:question|request|feedback|prompt|inquiry|message|interest"
    r"|input)"
    r"|reaching out|providing|reading|the (?:prompt|question|opportunity to)|using|asking|watching|choosing)",
    "the user": r"\bthe user(?:['’]s)? (?:wants?|asked|is asking|has asked|would like|request|prompt|needs"
    r"|provided"
    r"|said)",
    "prompt": r"\b(?:based on|according to|following|given|for|respond to|in response to) (?:the|your"
    r"|this) (?:given "
    r"|writing |above )?prompt\b|\bthe prompt (?:asks|says|is|requires)",
    "premise": r"\b(?:based on|according to|given) (?:the|your|this) premise\b",
    "i need to": r"^\W*(?:okay|ok|alright|so|hmm),? (?:so )?i need to (?:write|continue|create"
    r"|think about how|come up)",
    "let's": r"^\W*(?:okay|ok|alright|sure|great)[,!.] let['’]s (?:continue|write|create|start with"
    r"|begin with|see|"
    r"dive|break)",
    "your request": r"\b(?:fulfill?|regarding|per|about) your request\b",
    "this request": r"\b(?:reply to|fulfill?|regarding|with|about) this request\b",
    "if you": r"\bif you (?:need|want|have|require|would like) (?:any|more|further|some|additional"
    r"|other)\b[^.\n]{0,60}"
    r"\b(?:help|assistance|questions|information|suggestions|changes|ideas|guidance)\b",
    "hesitate to": r"\b(?:don['’]t|do not) hesitate to (?:reach out|ask|contact|let me|get in touch)",
    "let's ": r"^\W*let['’]s (?:continue|move on|go on|start|begin|dive|explore|return|get back"
    r"|keep)\b(?: \w+){0,4}? "
    r"(?:story|chapter|scene|narrative|text|part|plot|tale)\b",
    "my response": r"\b(?:my|this|the above) response (?:is|was|should|will|does|meets)\b",
    "story": r"^\W*(?:write|continue|complete|rewrite|create|summari[sz]e|finish|choose|describe"
    r"|compose) (?:a|an|the"
    r"|your|this|one)\b[^\n.]{0,60}\b(?:story|essay|paragraph|scene|chapter|poem)\b",
    "essay": r"^\W*(?:write|continue|complete|rewrite|create|finish) (?:a|an|the|your"
    r"|this)\b[^\n.]{0,40}\bessay\b",
    "assistant": r"^\W*(?:ai )?assistant\s*[:：]",
    "user": r"^\W*user\s*[:：]",
    "human": r"^\W*human\s*:",
    "instruction": r"^\W*(?:instructions?|your task)\s*[:：]",
    "response": r"^\W*(?:response|output|sample response|answer)\s*[:：]",
    "抱歉": r"抱歉[，,。！!]?(?:但|但是|由于[^。\n]{0,20}，)?我(?:无法|不能|没有办法|没法)(?:为[你您])?"
    r"(?:提供|协助|满足|完成|继续"
    r"|生成|帮助|回答|创作|写|处理|讨论)",
    "对不起": r"对不起[，,]?(?:但|但是)?我(?:无法|不能)(?:为[你您])?"
    r"(?:提供|协助|满足|继续|生成|回答|创作|处理)",
    "当然": r"^\W*当然(?:可以)?[！!，,。]\s*"
    r"(?:以下|下面|这里|这是|我(?:来|会|将|可以|很乐意)(?:为|帮|继续|给)?)",
    "以下": r"^\W*(?:好的|好|没问题)?[，,！!。]?\s*以下(?:是|为)[^。\n]{0,40}"
    r"(?:[:：]\W*$|续写|故事|小说|内容|建议|版本|章节|改写|修改)",
    "下面": r"^\W*(?:好的|没问题)?[，,！!。]?\s*下面是[^。\n]{0,40}(?:[:：]\W*$|续写的|为[您你])",
    "好的": r"^\W*好的[，,！!。]\s*(?:这是|我(?:会|将|来|可以)(?:为[你您]|帮[你您]|继续(?:写|为|创作)))",
    "希望": r"希望(?:这|以上|我的|能|对|本)[^。！\n]{0,16}"
    r"(?:对[你您]有(?:所)?帮助|帮(?:到|助)(?:到)?[你您]|符合[你您]|满足[你您])",
    "如果": r"如果(?:[你您])(?:还)?(?:有|需要|想)(?:任何|其他|更多|进一步|我|继续)"
    r"[^。\n]{0,24}(?:告诉我|提出|联系|问我|告知|提供)",
    "需要我": r"(?:是否)?需要我(?:继续写|继续为|为[您你]|帮[您你](?:续写|修改|写))",
    "随时": r"(?:请|可以|欢迎)随时(?:告诉我|提问|联系|向我|提出)",
    "的要求": r"(?:根据|按照|按|应)(?:您|你)的(?:要求|需求|提示|指示)",
    "为您": r"为您(?:续写|创作|提供|撰写|生成|准备)",
    "用户": r"用户(?:要求|希望|想要|想让|让我|的要求|的需求|提供)",
    "tut mir leid": r"\btut mir leid, aber (?:als (?:ki|eine? k)|ich kann (?:diese|dir|ihnen|das|dabei"
    r"|nicht weiter))",
    "als ki": r"\bals ki\b",
    "künstliche intelligenz": r"\bals (?:eine )?künstliche intelligenz\b",
    "gerne": r"^\W*(?:sehr )?gerne?[!,.] (?:hier|ich)\b",
    "natürlich": r"^\W*natürlich[!,.] hier (?:ist|sind|kommt)\b",
    "hier ist": r"^\W*hier ist (?:eine|die|deine|ihre|der|ein|das)[^\n]{0,80}:\W*$",
    "ich hoffe": r"\bich hoffe, (?:das|dies|dass (?:das|dies|ihnen|dir))[^.\n]{0,24}(?:hilft|geholfen|gefällt"
    r"|hilfreich)",
    "wissen": r"\b(?:lass(?:en sie)? mich|lasst mich) (?:gerne )?wissen, (?:wenn|ob|falls)\b",
    "en tant qu": r"\ben tant qu['’](?:ia\b|intelligence artificielle|assistant)",
    "je suis désolé": r"\bje suis désolée?, mais (?:en tant|je ne peux pas (?:continuer|fournir|répondre"
    r"|vous aider|écrire"
    r"|générer))",
    "voici": r"^\W*(?:bien sûr|certainement|d['’]accord|avec plaisir)\s*[!,.]\s*voici\b|^\W*voici (?:une|la"
    r"|votre|un|le)"
    r"[^\n]{0,80}:\W*$",
    "j'espère que": r"\bj['’]espère que (?:cela|ça|cette|ce)[^.\n]{0,24}(?:aide|utile|plaît|convient|plaira)",
    "n'hésitez pas": r"\bn['’]hésitez pas à (?:me|demander|poser)",
    "souhaitez-vous": r"\b(?:souhaitez|voulez)-vous que je (?:continue|poursuive|développe|modifie)",
    "inteligencia artificial": r"\bcomo (?:una )?inteligencia artificial\b",
    "lo siento": r"\blo siento, pero (?:como (?:ia|modelo|asistente|una ia)|no puedo (?:ayudar|continuar"
    r"|proporcionar"
    r"|cumplir|escribir|generar))",
    "aquí": r"^\W*(?:claro(?: que sí)?|por supuesto)\s*[!,.]\W*aquí\b|^\W*aquí (?:tienes|está) (?:una|la|tu"
    r"|el|un)"
    r"[^\n]{0,80}:\W*$",
    "espero que": r"\bespero que (?:esto|esta|este)[^.\n]{0,24}(?:ayude|sirva|útil|guste)",
    "no dudes en": r"\bno dudes en (?:pregunt|pedir|decir|contact)",
    "gustaría que": r"\b(?:te|le) gustaría que (?:continúe|siga|escriba|añada)",
}
_OF_TEXT = (
    r"(?:chapter|part|text|excerpt|document|scene|act|episode|volume|section|passage|draft|preview|sample)"
)
_NOTE: Mapping[str, str] = {
    "[": r"\[(?:insert|add|your (?:name|text|answer|story|title|address)|describe|placeholder"
    r"|continue|name of)\b[^\]\n]{0,80}\]",
    "note": r"^\W*[\[(（【*_]+\s*(?:(?:author|editor|translator|writer)['’]?s?['’]? )?notes?\b\s*[:：—-]"
    r"|^\W*(?:(?:author|editor"
    r"|translator|writer)['’]?s?['’]? )notes?\s*[:：]",
    "word": r"^\W*(?:(?:total |approximate |final )?word ?count|total words?|words)\s*[:：]\s*[~≈]?\d"
    r"|^\W*[\[(]\s*(?:word"
    r" ?count\b|\d[\d,.]* words)",
    "to be continued": r"\bto be continued\W*$",
    "continue": r"^\W*[\[(（*]\s*(?:to be )?cont(?:inue[ds]?|['’]d)\b[^\n]{0,40}[\])）*]|\bcontinued (?:in"
    r"|on) (?:the )?"
    r"(?:next|following) (?:chapter|part|page|post|episode)|^\W*continued\W*$",
    "end of": rf"^\W*end of (?:the )?(?:this )?(?:\w+ )?{_OF_TEXT}\b[^\n]{{0,20}}$",
    "chapter": r"\b(?:in|of|for) the (?:next|following|previous|upcoming) chapter\b|^\W*(?:next"
    r"|previous) chapter\W*$|\bin"
    r" this chapter\b|\bchapter (?:summary|title|outline)\s*[:：]|\bthis chapter (?:is|will|ends|explores"
    r"|shows|of)|\bend"
    r"s? (?:of )?(?:the|this) chapter\b",
    "this story": r"\bthis story (?:explores|is about|highlights|delves|serves|follows|illustrates|depicts"
    r"|portrays|teaches"
    r"|shows|ends|begins|revolves|is (?:told|set|written|really|very|based|a work|dedicated|meant))|\b(?:part"
    r"|end|beginning"
    r"|moral|plot|theme|author|reader|rest) of this story\b",
    "the story": r"\bthe story (?:explores|highlights|delves|serves as|illustrates|depicts|portrays|revolves"
    r"|follows|is (?:told"
    r" from|set in|written|a work of))|^\W*(?:the )?(?:moral|plot|theme|summary) of the story\b",
    "short story": r"\bthis (?:is a )?short story\b",
    "protagonist": r"\b(?:the|our|your|my|main) protagonist\b",
    "main character": r"\b(?:the|our|your|my) main characters?\b",
    "your character": r"\byour (?:main )?characters?['’]?s? (?:is|are|should|must|will|name|background"
    r"|motivation)",
    "depth to": r"\badds? (?:more )?(?:depth|tension|realism|interest) to (?:the|your) (?:story|narrative"
    r"|character|plot)",
    "your narrative": r"\byour (?:narrative|readers?|audience|plot)\b",
    "to your story": r"\bto your story\b",
    "your story": r"\byour (?:short )?story (?:is|should|must|will|needs)\b|\bof your story\b",
    "the reader": r"\b(?:keeps?|leaves?|leaving|keeping|engages?|invites?) the readers? (?:engaged|with"
    r"|wondering|on|to|guessing)",
    "title": r"^\W*(?:title|book title|chapter title)\s*[:：]",
    "genre": r"^\W*genres?\s*[:：]",
    "author": r"^\W*(?:author|about the author)\s*(?:[:：]|$)",
    "written by": r"^\W*(?:article |story |post )?written by\s*:|^\W*(?:article|story"
    r"|post) (?:written )?by\b",
    "summary": r"^\W*(?:summary|plot summary|chapter summary|in summary)\s*[:：,]",
    "synopsis": r"^\W*synopsis\s*[:：]",
    "setting": r"^\W*settings?\s*[:：]",
    "characters": r"^\W*(?:main |other |supporting )?characters\s*[:：]",
    "plot": r"^\W*plot(?: points?| twist| outline)?\s*[:：]",
    "theme": r"^\W*themes?\s*[:：]",
    "point of view": r"^\W*point of view\s*[:：]",
    "conclusion": r"^\W*(?:conclusion\s*[:：]|in conclusion,)",
    "introduction": r"^\W*introduction\s*[:：]",
    "disclaimer": r"^\W*disclaimer\s*[:：]",
    "outline": r"^\W*(?:\w+ )?outline\s*[:：]",
    "published": r"^\W*(?:first )?published(?: by| on| in)?\s*[:：]",
    "posted": r"^\W*posted (?:by [\w ]{1,30}(?:$| on\b)|on (?:\d|\w+ \d)|in:|at \d)",
    "copyright": r"\bcopyright (?:©|\(c\)|&|\d{4})|^\W*copyright\s*[:：]",
    "all rights": r"\ball rights reserved\b",
    "isbn": r"\bisbn\b",
    "click": r"\bclick (?:here|on the|the link|below|to (?:read|view|see))",
    "subscribe": r"\bsubscribe to (?:our|my|the|this)|^\W*subscribe\W*$",
    "read more": r"\bread more\W*$|\bread more (?:about|at|here|on)\b",
    "comment": r"\bleave a (?:comment|reply)\b|\bin the comments\b|^\W*comments?\s*(?:\(\d+\)|[:：])",
    "follow": r"\bfollow (?:me|us|him|her) on (?:twitter|facebook|instagram|social)",
    "share this": r"\bshare this (?:post|article|story|page|with your friends)",
    "website": r"\b(?:our|my|this|the|his|her) website (?:at|for|is)\b|\bvisit (?:our|my|the) website\b",
    "this article": r"\bthis (?:article|blog|blog post|post|essay|video|podcast) (?:is|was|will|explores"
    r"|discusses|has|about)",
    "this blog": r"\b(?:of|on|to|in) this blog\b",
    "email": r"\b(?:our|your|my) e-?mail (?:list|address)\b|\bvia e-?mail\W*$",
    "privacy policy": r"\bprivacy policy\b",
    "freelance": r"\bfreelance (?:writer|journalist)\b[^.\n]{0,30}\b(?:based|living|who)\b",
    "未完待续": r"未完待续",
    "本章": r"本章(?:完|结束|终|字数|未完)",
    "全文": r"^\W*[（(【]\s*全文(?:完|终)\s*[）)】]",
    "字数": r"^\W*[（(【]?\s*(?:全文|本章|总)?字数\s*[:：]",
    "注": r"^\W*[（(【\[]?\s*(?:作者|译者|编者)?注\s*[:：]",
    "作者": r"^\W*作者(?:有话说|的话|按|[:：])",
    "下一章": r"(?:请看|敬请期待|预告|点击|在)下一章",
    "这个故事": r"这个故事(?:讲述|告诉我们|探讨|展现|主要|通过)"
    r"|这(?:篇|部)(?:小说|故事|文章)(?:讲述|通过|探讨|展现)",
    "标题": r"^\W*(?:标题|题目|主题|人物|背景|梗概|大纲|情节)\s*[:：]",
    "fortsetzung folgt": r"\bfortsetzung folgt\b",
    "ende des": r"^\W*ende de[sr] (?:ersten |zweiten |\w+ )?(?:kapitels|teils|geschichte|buches)\W*$",
    "à suivre": r"^\W*à suivre\W*$",
    "fin du": r"^\W*fin du (?:chapitre|livre|roman|premier chapitre)\b",
    "continuará": r"\bcontinuará\W*$",
    "fin del": r"^\W*fin del? (?:capítulo|libro|la historia|la novela)\b",
}

_ANCHOR = r"^\W*"
_FLAGS = re.IGNORECASE | re.MULTILINE


_BEGINNING = re.compile(r"(?m)(?:^|[.!?…:\"]\s|[。！？…])(?=([^\w\n]*))")
"""Where a sentence may begin; the marks before its first word are the group."""


class _Patterns(NamedTuple):
    """A row of a table: what may stand anywhere, and what only at the beginning of a sentence.

    The second is tried where a sentence begins, which takes a tenth of the time of searching for it.
    """

    anywhere: re.Pattern[str] | None
    at_beginning: re.Pattern[str] | None


def _compiled(table: Mapping[str, str]) -> dict[str, _Patterns]:
    return {literal: _patterns(_alternatives(pattern)) for literal, pattern in table.items()}


def _patterns(alternatives: Sequence[str]) -> _Patterns:
    first = [part.replace(_ANCHOR, r"[^\w\n]*", 1) for part in alternatives if part.startswith(_ANCHOR)]
    other = [part for part in alternatives if not part.startswith(_ANCHOR)]
    anywhere, at_beginning = (
        re.compile("|".join(parts), _FLAGS) if parts else None for parts in (other, first)
    )
    return _Patterns(anywhere, at_beginning)


def _alternatives(pattern: str) -> list[str]:
    """The alternatives of a pattern that are not in a group."""
    parts, depth, start = [], 0, 0
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()|]", pattern, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if token[0] == "|" and not depth:
            parts.append(pattern[start : token.start()])
            start = token.end()
    return [*parts, pattern[start:]]


STRONG, ASSISTANT, NOTE = _compiled(_STRONG), _compiled(_ASSISTANT), _compiled(_NOTE)
_EMOJI = re.compile(
    "[\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff\u2705\u2728\u274c\u274e\u2753-\u2757\u2763\u2764\u2639\u263a"
    "\u2b50\u2b55\u26a0\u26a1\u2611\u2714\u2716\u270a-\u270d]"
)


def assistant_talk(passage: Passage) -> Iterator[tuple[int, int, str]]:
    """(start, end, what) of refusals, offers and other talk of an assistant, and of emoji."""
    for text, table in ((passage.text, STRONG), (passage.narration, ASSISTANT)):
        for start, end in _matches(text, table):
            yield start, end, "the model talks to a reader instead of telling the story"
    for match in _EMOJI.finditer(passage.text):
        yield match.start(), match.end(), "it has an emoji"


def notes(passage: Passage) -> Iterator[tuple[int, int, str]]:
    """(start, end, what) of notes about the text, and of phrases of web pages."""
    for start, end in _matches(passage.narration, NOTE):
        yield start, end, "it has a note about the text instead of the story"


def _matches(text: str, table: Mapping[str, _Patterns]) -> Iterator[tuple[int, int]]:
    plain = text.lower().replace("’", "'")
    rows = [patterns for literal, patterns in table.items() if literal in plain]
    beginnings = [match.start(1) for match in _BEGINNING.finditer(text)] if rows else []
    for anywhere, at_beginning in rows:
        matches = list(anywhere.finditer(text)) if anywhere else []
        if at_beginning:
            matches += filter(None, (at_beginning.match(text, start) for start in beginnings))
        for match in matches:
            yield match.start() + len(match[0]) - len(match[0].lstrip()), match.end()
