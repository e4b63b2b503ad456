"""Hints for finding names in everyday language: characters, words, surnames and titles.

`term_proposals` uses them. The lists are short: they were collected by hand from two novels.
"""

from __future__ import annotations

from dataclasses import dataclass

from templora_cli.scripts import word_set


@dataclass(frozen=True)
class Hints:
    """Hints for finding names in a language without spaces around them."""

    never_in_names: str
    """Characters that are in no name."""
    never_first: str
    """Characters that no name begins with."""
    never_last: str
    """Characters that no name ends with."""
    words: frozenset[str]
    """Everyday words that are frequent in every book."""
    surnames: frozenset[str]
    titles: tuple[str, ...]
    familiar: str
    """Characters that friends put before a surname."""
    verbs: str
    """Characters of verbs that follow a person who speaks or moves."""
    prepositions: str
    """Characters that precede a person to or with whom something is done."""
    degrees: str
    """Characters that precede adjectives and verbs."""
    aspects: str
    """Characters that follow verbs and adverbs."""


HAN = Hints(
    never_in_names=(
        "的了着吗呢吧啊呀么嘛这那哪怎谁您你我他她它们很也都就还又才却没不把被让给从向对跟与及或但而因所若"
    ),
    never_first=(
        "在是有和说道问想看听走来去到过会能要可得地之其于则使将已曾再更最太真只个些每各几多少上下里"
        "外前后一二三四五六七八九十两第另某此本该叫请笑做见"
    ),
    never_last=(
        "在是有和说道问想看听走来去到过会能要可得地之其于则使将已曾再更最太真只个些每各几多少上下里"
        "外前后时候样次种点笑边面中起出回开住紧身手头眼脸声话心第一叫拿站坐做见"
    ),
    words=word_set(
        "什么 自己 知道 现在 今天 明天 昨天 时间 事情 东西 地方 问题 已经 可以 因为 所以 如果 虽然 "
        "突然 忽然 立刻 马上 终于 觉得 感觉 发现 开始 继续 准备 需要 希望 应该 可能 必须 以为 认为 "
        "告诉 喜欢 相信 明白 清楚 意思 机会 关系 办法 消息 电话 孩子 女人 男人 朋友 人家 大家 家里 "
        "学校 房间 眼睛 眼神 目光 脸色 声音 身体 身份 心里 面前 旁边 起来 出来 出去 回来 回去 进来 "
        "进去 过来 过去 离开 回家 吃饭 睡觉 非常 十分 特别 实在 似乎 仿佛 好像 简直 果然 竟然 居然 "
        "究竟 根本 完全 全部 当然 其实 其他 而且 然后 或者 甚至 只要 除了 为了 关于 根据 一直 一定 "
        "一切 一样 一起 一边 一般 一声 一点 有些 有点 别人 高兴 生气 害怕 担心 漂亮 重要 奇怪 简单 "
        "容易 干净 仔细 认真 努力 小心 安全 危险 温柔 冷冷 淡淡 微微 轻轻 慢慢 默默 狠狠 紧紧 刚刚 "
        "刚才 以后 以前 之后 之前 当时 当年 同时 今晚 晚上 早上 早就 原来 本来 后来 反正 毕竟 不过 "
        "还是 还有 就是 但是 可是 只是 那么 怎么 这么 多么 为什么 所有 拒绝 同意 答应 决定 选择 "
        "解释 回答 保护 帮助 照顾 威胁 伤害 原谅 后悔 放心 放弃 忍受 接受 控制 父母 父亲 母亲 爸爸 "
        "妈妈 妈咪 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 儿子 女儿 丈夫 妻子 老公 老婆 先生 小姐 "
        "姑娘 媳妇 闺女 大哥 大姐 大叔 大伯 大嫂 大娘 大爷 二哥 二姐 姐夫 嫂子 叔叔 阿姨 师傅 "
        "医生 护士 老师 学生 警察 士兵 司机 老板 老人 男子 女子 少年 少女 众人 有人 两人 一人 对方 "
        "手机 医院 学校 公司 房子 衣服 东西 农村 县城 城里 白天 白色 黑色 红色 方法 严重 大学 任务 "
    ),
    surnames=frozenset(
        "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾"
        "丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤"
        "尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温芦季俞章鲁葛伍韦申尤毕聂焦向柳邢路岳齐梅莫"
        "庄辛管祝左涂谷祁时舒耿牟卜詹关苗凌费纪靳盛童欧甄项曲成游阳裴席卫查屈鲍位覃霍翁隋植甘景薄单"
        "包司柏宁柯阮桂闵解强柴华车冉房边"
    ),
    titles=tuple(
        word_set(
            "先生 小姐 夫人 太太 师父 师傅 师兄 师姐 师弟 师妹 长老 掌门 老爷 少爷 大人 将军 公子 "
            "姑娘 总裁 老师 医生 大夫 教授 队长 团长 连长 排长 班长 首长 司令 书记 主任 经理 哥 姐 "
            "叔 婶 伯 姨 爷 奶 嫂 妈 爸 儿 家 村 镇 县 城 山 河 市 国 派 宗 门 宫 殿 阁 府 集团 "
            "公司 医院 学院 大学"
        )
    ),
    familiar="小老阿",
    verbs="说道问答笑哭喊叫骂看听想点摇皱站坐走跑拿接抬转伸推拉挑冷",
    prepositions="对和跟给把被让向与找替朝",
    degrees="不很太别就还都更最又有没",
    aspects="地着了",
)
"""For Chinese, and for the Chinese characters of Japanese."""

KOREAN = Hints(
    never_in_names="",
    never_first="그이저것수",
    never_last=("은는이가을를의에도와과로고며면서지만다요까네죠게한할된될던했었았겠"),
    words=word_set(
        "그리고 하지만 그러나 그런데 그래서 지금 오늘 내일 우리 사람 생각 시간 때문 정말 다시 모두 아직"
    ),
    surnames=frozenset("김이박최정강조윤장임한오서신권황안송전홍유고문양손배백허남심노하곽성차주우구민진"),
    titles=("씨", "님", "군", "양", "선생", "사장", "장군"),
    familiar="",
    verbs="",
    prepositions="",
    degrees="",
    aspects="",
)

CONTRACTED = word_set("I'm I'll I've I'd I’m I’ll I’ve I’d")
"""English words with a capital that are not names."""
LINKS = word_set("of the de la du des von van der den del della di y et and und")
"""Lower-case words inside names, as in "Order of the Lamp"."""
DETERMINERS = word_set(
    "der die das dem den des ein eine einen einem einer eines kein keine keinen mein meine dein "
    "seine seinen ihr ihre ihren sein unser jeder jede jedes dieser diese dieses diesem diesen im "
    "am zum zur vom ins ans"
)
"""German words that precede nouns but hardly ever names."""

TITLES = word_set("Mr Mrs Ms Dr Prof St Capt Col Gen Lt Sgt Rev Hon Mme Mlle Hr Fr")
"""Words that end with a full stop before a name."""
