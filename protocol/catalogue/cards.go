package catalogue

// kioskFields name the kiosk in the calls about a card.
func kioskFields() []Field {
	return []Field{
		need("deviceId", String, 32, "设备编号", "issued at registration"),
		orgCode(),
		need("terminalNo", Hex, 12, "终端号", "unique in the fleet; a purse's log names its loads by it"),
	}
}

func logFields(prefix string) []Field {
	return []Field{
		need(prefix+"seq", Integer, 0, "联机序号", "online sequence of the load"),
		need(prefix+"amount", Integer, 0, "金额", "as the card wrote it"),
		need(prefix+"terminal", Hex, 12, "终端号", "terminal that loaded"),
		need(prefix+"date", Hex, 8, "日期", "yyyyMMdd as the card wrote it"),
		need(prefix+"time", Hex, 6, "时间", "HHmmss as the card wrote it"),
	}
}

func money() []Field {
	return []Field{
		need("amount", Integer, 0, "金额", "of the order", in(Fen)),
		need("gasVolume", Integer, 0, "气量", "of the order", in(CL)),
	}
}

func concat(parts ...[]Field) []Field {
	var all []Field
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// cards is what is asked about a card, and 4006 (clause 6 of the document is
// titles here; docs/contract.md is the contract).
func cards() []Interface {
	return []Interface{
		{
			Code: "3010", ZH: "IC卡信息查询", EN: "card info", Method: Post, Path: "/iccard/getCardInfo", Evidence: Ours, Kiosk: true, Read: true, Shape: Object,
			Request: concat(kioskFields(), []Field{
				need("cardType", String, 20, "卡类型", "CPU, SLE4442 ..."),
				may("atr", Hex, 66, "复位应答", "as the reader tells it"),
				may("uid", Hex, 20, "卡片序列号", "as the reader tells it"),
				may("cardNo", String, 32, "卡号", "empty when the card does not tell it"),
				need("balance", Integer, 0, "余额", "of a purse", in(Fen)),
				may("log", Objects, 0, "充值记录", "of a purse: load records, newest first, at most 10"),
			}, logFields("log."), []Field{
				may("cardData", Hex, 8192, "卡片内容", "of a memory card, whole"),
			}),
			Answer: concat([]Field{
				need("cardNo", String, 32, "卡号", "of the card that was asked about"),
				may("subsCode", String, 20, "气户户号", "number of the gas account"),
				may("name", String, 60, "气户名称", "masked: personal"),
				may("displayAddr", String, 255, "显示地址", "masked: personal"),
				may("meterCode", String, 20, "表具编号", "number of the meter"),
				may("meterType", String, 2, "表具类型", "1 counts gas, 2 money"),
				may("cardState", String, 2, "卡状态", "A usable, L lost, X not"),
				may("canCharge", Char, 1, "可否充值", "Y or N"),
				may("denyCode", String, 32, "拒绝原因", "LOST, BLOCKED, ARREARS, METER, COMPANY, LIMIT; others are shown with denyMsg"),
				may("denyMsg", String, 256, "拒绝说明", "for the customer"),
				may("remaining", Integer, 0, "卡上剩余气量", "gas still on the card", in(CL)),
				may("unit", String, 8, "单位", "fen or m3"),
				may("challenge", String, 64, "挑战值", "single use; the next 4006 of this card carries the newest"),
				may("pendingOrders", Objects, 0, "待圈存订单", "paid orders for this card"),
				need("pendingOrders.orderNo", String, 64, "订单号", "number of the order"),
				need("pendingOrders.amount", Integer, 0, "金额", "paid", in(Fen)),
				may("pendingOrders.gasVolume", Integer, 0, "气量", "gas", in(CL)),
				may("pendingOrders.payTime", Timestamp, 14, "支付时间", "when"),
				may("pendingOrders.source", String, 32, "来源", "web, wechat ..."),
			}),
			Note: "The log may settle another kiosk's unknown outcome. A new answer makes the challenge of the one before worthless (clause 2).",
		},
		{
			Code: "3016", ZH: "IC卡充值历史查询", EN: "card recharge history", Method: Get, Path: "/iccard/queryRecharges", Evidence: Ours, Kiosk: true, Read: true, Shape: List,
			Request: concat([]Field{
				subsCode(), orgCode(),
				may("cardNo", String, 32, "卡号", "of the card"),
				need("beginDate", String, 8, "开始日期", "yyyyMMdd"),
				need("endDate", String, 8, "结束日期", "yyyyMMdd, inclusive"),
			}, page()),
			Answer: concat([]Field{
				need("orderNo", String, 64, "订单号", "number of the order"),
				may("termTransNo", Hex, 32, "终端流水号", "number of the top-up"),
				may("deviceId", String, 32, "设备编号", "kiosk"),
				may("cardNo", String, 32, "卡号", "card"),
				may("count", Integer, 0, "购气次数", "of a memory card"),
			}, money(), []Field{
				may("payType", String, 20, "支付方式", "way of payment"),
				may("payTime", Timestamp, 14, "支付时间", "when paid"),
				may("writeTime", Timestamp, 14, "写卡时间", "when written"),
				need("state", Char, 1, "状态", "P paid, A authorised, S settled, R given back"),
			}),
			Note: "Used after a loss of data to see what this kiosk has done.",
		},
		{
			Code: "3019", ZH: "IC卡气价查询", EN: "card price", Method: Get, Path: "/iccard/queryPrice", Evidence: Ours, Kiosk: true, Read: true, Shape: Object,
			Request: []Field{
				may("subsCode", String, 20, "气户户号", "number of the gas account"),
				orgCode(),
				need("cardNo", String, 32, "卡号", "of the card"),
			},
			Answer: append([]Field{
				may("priceVersion", String, 32, "价格版本", "version"),
				may("effectiveDate", String, 14, "生效日期", "valid from"),
				may("unit", String, 8, "单位", "of the prices"),
				need("stepList", Objects, 0, "阶梯价格", "steps"),
			}, step("stepList.")...),
		},
		{
			Code: "4006", ZH: "IC卡充值", EN: "card recharge (authorise)", Method: Post, Path: "/iccard/recharge", Evidence: Ours, Kiosk: true, Shape: Object,
			Request: concat([]Field{
				need("termTransNo", Hex, 32, "终端流水号", "number of the top-up: the idempotency key"),
				may("challenge", String, 64, "挑战值", "of the newest 3010 of this card"),
				may("orderNo", String, 64, "订单号", "mode 1"),
			}, kioskFields(), []Field{
				need("cardNo", String, 32, "卡号", "of the card"),
				may("subsCode", String, 20, "气户户号", "number of the gas account"),
				may("meterCode", String, 20, "表具编号", "number of the meter"),
				need("cardType", String, 20, "卡类型", "as 3010"),
				need("loadMode", Integer, 0, "圈存方式", "1 draws a paid order, 2 was paid at the kiosk"),
			}, money(), []Field{
				need("kind", String, 10, "写卡方式", "load, image or script"),
				may("load", Nested, 0, "圈存初始化", "purse: what 80 50 answered"),
				need("load.type", Integer, 0, "交易类型", "2 purse, 1 deposit"),
				need("load.keyIndex", Integer, 0, "密钥索引", "of the load key"),
				need("load.keyVersion", Integer, 0, "密钥版本", "as the card tells it"),
				need("load.algId", Integer, 0, "算法标识", "as the card tells it"),
				need("load.balance", Integer, 0, "余额", "before", in(Fen)),
				need("load.onlineSeq", Integer, 0, "联机序号", "0 to 65535"),
				need("load.random", Hex, 8, "随机数", "of the card"),
				need("load.mac1", Hex, 8, "MAC1", "of the card"),
				may("image", Nested, 0, "卡片内容", "memory card"),
				need("image.cardData", Hex, 8192, "卡片内容", "whole"),
				need("image.count", Integer, 0, "购气次数", "as read"),
				may("payType", String, 20, "支付方式", "mode 2"),
				may("payTransNo", String, 64, "支付流水号", "mode 2"),
				may("payTime", Timestamp, 14, "支付时间", "mode 2"),
			}),
			Answer: concat([]Field{
				need("termTransNo", Hex, 32, "终端流水号", "as asked"),
				need("orderNo", String, 64, "订单号", "as asked"),
				need("cardNo", String, 32, "卡号", "as asked"),
				need("kind", String, 10, "写卡方式", "as asked"),
			}, money(), []Field{
				need("authExpire", Integer, 0, "授权有效期", "no write begins later; 1 to 86400", in(Seconds)),
				may("load", Nested, 0, "圈存", "purse"),
				need("load.hostDate", String, 8, "主机日期", "yyyyMMdd, goes onto the card"),
				need("load.hostTime", String, 6, "主机时间", "HHmmss, goes onto the card"),
				need("load.mac2", Hex, 8, "MAC2", "never logged"),
				may("image", Nested, 0, "写卡内容", "memory card"),
				need("image.count", Integer, 0, "购气次数", "new"),
				need("image.writes", Objects, 0, "写入段", "do not overlap"),
				need("image.writes.zone", String, 16, "区", "main"),
				need("image.writes.offset", Integer, 0, "偏移", "0 to 255"),
				need("image.writes.data", Hex, 8192, "数据", "bytes"),
				need("image.commit", Nested, 0, "提交字段", "lies within one of the writes, written last"),
				need("image.commit.zone", String, 16, "区", "main"),
				need("image.commit.offset", Integer, 0, "偏移", "0 to 255"),
				need("image.commit.len", Integer, 0, "长度", "bytes"),
				may("image.crcBefore", Hex, 8, "写前校验", "CRC-32 (IEEE) of the 256 bytes"),
				may("image.crcAfter", Hex, 8, "写后校验", "CRC-32 (IEEE) of the 256 bytes"),
				may("image.pscOld", Hex, 6, "原卡密码", "never logged"),
				may("image.pscNew", Hex, 6, "新卡密码", "empty: not changed; never logged"),
				may("script", Nested, 0, "脚本", "card driven by the platform's commands"),
				need("script.steps", Objects, 0, "步骤", "in order"),
				need("script.steps.apdu", Hex, 522, "命令", "command"),
				may("script.steps.expect", Hex, 4, "期望状态", "status word"),
				need("script.steps.changing", String, 5, "是否改变卡片", "JSON bool"),
				need("script.check", Objects, 0, "检查", "read-only commands that tell whether it was written"),
				need("script.check.apdu", Hex, 522, "命令", "command"),
				need("script.check.written", Hex, 512, "已写应答", "answer that means written"),
				need("script.check.notWritten", Hex, 512, "未写应答", "answer that means not written"),
				may("script.resume", String, 10, "续写", "restart or never"),
				may("receipt", Nested, 0, "小票", "texts for the receipt, by name"),
			}),
			Note: "Idempotent over number, order, card, amount, kind and online sequence or count (clause 1). Expiry forbids the write, it does not release the order (clause 4).",
		},
	}
}

// report is the rest of a top-up: what happened, giving back, asking.
func report() []Interface {
	return []Interface{
		{
			Code: "6002", ZH: "写卡结果上报", EN: "write result report", Method: Post, Path: "/iccard/reportResult", Evidence: Ours, Kiosk: true, Shape: Object,
			Request: concat([]Field{
				need("termTransNo", Hex, 32, "终端流水号", "number of the top-up"),
				need("rev", Integer, 0, "版本", "1, 2, 3 ...; the highest counts"),
				need("orderNo", String, 64, "订单号", "number of the order"),
			}, kioskFields(), []Field{
				need("cardNo", String, 32, "卡号", "of the card"),
				need("kind", String, 10, "写卡方式", "load, image or script"),
			}, money(), []Field{
				need("result", Integer, 0, "写卡结果", "0 written, 1 not, 2 unknown, 3 written but the code's change failed"),
				need("evidence", String, 10, "凭证", "answer, proof, log, image, journal or operator"),
				need("noAttempt", Char, 1, "未尝试写卡", "Y: no changing command was ever sent"),
				may("onlineSeqBefore", Integer, 0, "联机序号（前）", "of the attempt"),
				may("onlineSeqAfter", Integer, 0, "联机序号（后）", "as read later"),
				may("balanceAfter", Integer, 0, "余额（后）", "as read later", in(Fen)),
				may("tac", Hex, 8, "TAC", "of the load"),
				may("logRecord", Nested, 0, "充值记录", "the load's own record"),
			}, logFields("logRecord."), []Field{
				may("hostDate", String, 8, "主机日期", "as 4006 gave it"),
				may("hostTime", String, 6, "主机时间", "as 4006 gave it"),
				may("cardDataAfter", Hex, 8192, "写后内容", "of a memory card"),
				may("failCode", String, 32, "失败代码", "label"),
				may("failReason", String, 256, "失败原因", "remark"),
				may("writeTime", Timestamp, 14, "写卡时间", "when it was decided"),
				need("offlineSeconds", Integer, 0, "延迟", "since then", in(Seconds)),
				may("firmware", String, 64, "程序版本", "version"),
			}),
			Answer: []Field{
				need("termTransNo", Hex, 32, "终端流水号", "as asked"),
				may("orderNo", String, 64, "订单号", "as asked"),
				need("rev", Integer, 0, "版本", "as asked: an answer to rev n settles nothing later"),
				need("state", Char, 1, "状态", "S settled, R given back, P pending"),
				may("duplicate", Char, 1, "重复", "Y or N"),
			},
			Note: "Never forgotten (clause 5). Result 1 or a 6003 for a number not seen yet is a fence, answered R (clause 3).",
		},
		{
			Code: "6003", ZH: "冲正", EN: "reversal", Method: Post, Path: "/iccard/reverse", Evidence: Ours, Kiosk: true, Shape: Object,
			Request: []Field{
				need("termTransNo", Hex, 32, "终端流水号", "number of the top-up it gives back"),
				need("orderNo", String, 64, "订单号", "number of the order"),
				need("deviceId", String, 32, "设备编号", "kiosk"),
				orgCode(),
				need("reason", String, 2, "冲正原因", "01 not written, 02 answer lost, 03 card gone, 04 cancelled, 05 fault, 06 operator"),
				need("time", Timestamp, 14, "冲正时间", "when"),
			},
			Answer: []Field{
				need("termTransNo", Hex, 32, "终端流水号", "as asked"),
				may("orderNo", String, 64, "订单号", "as asked"),
				need("state", Char, 1, "状态", "S, R or P"),
			},
			Note: "Only with the journal's proof or a CPU card's that nothing was written.",
		},
		{
			Code: "6006", ZH: "订单查询", EN: "order query", Method: Get, Path: "/iccard/queryOrder", Evidence: Ours, Kiosk: true, Read: true, Shape: Object,
			Request: []Field{
				may("termTransNo", Hex, 32, "终端流水号", "one of the two"),
				may("orderNo", String, 64, "订单号", "one of the two"),
			},
			Answer: concat([]Field{
				may("termTransNo", Hex, 32, "终端流水号", "as asked"),
				may("orderNo", String, 64, "订单号", "as asked"),
				need("state", Char, 1, "状态", "S settled, R given back, P pending, A authorised"),
				may("holder", Hex, 32, "持有者", "number it is authorised under"),
				may("amount", Integer, 0, "金额", "of the order", in(Fen)),
				may("gasVolume", Integer, 0, "气量", "of the order", in(CL)),
				may("count", Integer, 0, "购气次数", "of a memory card"),
				may("authExpire", Integer, 0, "授权有效期", "left", in(Seconds)),
				may("authorization", Nested, 0, "授权", "what 4006 answered, while the number asked for holds the order"),
			}),
		},
	}
}
