package catalogue

import "slices"

// kiosk is clause 8 and what a kiosk needs besides.
func kiosk() []Interface {
	return slices.Concat(report(), []Interface{
		{
			Code: "6001", ZH: "圈存机注册接口（企业）", EN: "kiosk registration", Method: Post, Path: "/device/register", Evidence: Ours, Kiosk: true, Shape: Object,
			Request: []Field{
				orgCode(),
				may("channelId", String, 32, "渠道编号", "issued per enterprise"),
				may("appId", String, 20, "应用ID", "issued by the platform"),
				need("deviceSn", String, 64, "设备序列号", "of the maker"),
				may("imei", String, 20, "IMEI", "of the modem", grade(Inferred)),
				may("iccid", String, 22, "ICCID", "of the SIM"),
				may("msisdn", String, 20, "电话号码", "of the SIM"),
				may("mac", String, 17, "MAC地址", "of the network card"),
				may("model", String, 64, "型号", "of the kiosk"),
				may("firmware", String, 64, "程序版本", "version"),
				may("cardTypes", Strings, 20, "支持的卡类型", "what is served"),
				may("lng", String, 20, "经度", "WGS 84, decimal degrees"),
				may("lat", String, 20, "纬度", "WGS 84, decimal degrees"),
				may("address", String, 255, "安装地址", "where it stands"),
			},
			Answer: []Field{
				need("deviceId", String, 32, "设备编号", "name of the kiosk from now on", grade(Inferred)),
				may("baseKey", String, 32, "基础密钥", "only where keys come on line; never logged", grade(Inferred)),
				may("registerToken", String, 512, "注册令牌", "proof of the registration", grade(Inferred)),
				may("createTime", Timestamp, 14, "注册时间", "when", grade(Inferred)),
			},
			Note: "Signed with the enterprise key or a technician's one-time code. A repeat with the same deviceSn gives the same deviceId.",
		},
		{
			Code: "6004", ZH: "心跳", EN: "heartbeat and commands", Method: Post, Path: "/device/heartbeat", Evidence: Ours, Kiosk: true, Shape: Object,
			Request: []Field{
				need("deviceId", String, 32, "设备编号", "kiosk"),
				orgCode(),
				need("state", String, 32, "状态", "serving, or why not"),
				may("kcv", Hex, 6, "密钥校验值", "of the base key in use"),
				need("keyGen", Integer, 0, "密钥代数", "generation of the base key"),
				need("queueDepth", Integer, 0, "待上报数", "messages that wait"),
				need("oldestQueued", Integer, 0, "最久等待", "age of the oldest", in(Seconds)),
				need("parked", Integer, 0, "搁置数", "messages that wait for a person"),
				may("alarms", Strings, 64, "告警", "by name"),
				may("firmware", String, 64, "程序版本", "version"),
				need("diskFree", Integer, 0, "剩余空间", "bytes"),
				may("readerState", String, 32, "读卡器状态", "cardIn, cardOut, readerGone, serviceDown, unknown"),
				may("lastTransTime", Timestamp, 14, "最近交易时间", "when the newest top-up was begun"),
				may("modemState", Nested, 0, "通信模块状态", "of the modem, where there is one"),
				need("modemState.csq", Integer, 0, "信号强度", "0 to 31, 99 unknown"),
				may("modemState.iccid", String, 22, "ICCID", "of the SIM"),
				may("acks", Objects, 0, "命令回执", "what became of commands, until a heartbeat that carried it is answered"),
				need("acks.cmdId", String, 64, "命令编号", "of the command"),
				need("acks.result", String, 8, "结果", "ok, refused, expired, failed"),
				may("acks.reason", String, 32, "原因", "why not ok"),
				may("acks.kcv", Hex, 6, "密钥校验值", "answer to keyCheck"),
			},
			Answer: []Field{
				need("timestamp", Timestamp, 14, "时间戳", "the platform's time"),
				may("commands", Objects, 0, "命令", "at most 32"),
				need("commands.cmdId", String, 64, "命令编号", "names the command for ever"),
				need("commands.signed", String, 8192, "已签名命令", "envelope of protocol/signed, purpose command, as base64url: cmdId, cmd and args are in its payload"),
			},
		},
		{
			Code: "6005", ZH: "时间查询", EN: "clock", Method: Get, Path: "/device/time", Evidence: Ours, Kiosk: true, Read: true, Shape: Object,
			Request: nil,
			Answer:  []Field{need("timestamp", Timestamp, 14, "时间戳", "the platform's time")},
		},
	})
}

// business is clause 6 without 4006, which is with the cards.
func business() []Interface {
	done := []Field{may("bizNo", String, 32, "业务编号", "number of what was done")}
	b := func(code, zh, en, path string, request ...Field) Interface {
		return Interface{Code: code, ZH: zh, EN: en, Method: Post, Path: path, Evidence: Ours, Shape: Object, Request: request, Answer: slices.Clone(done)}
	}
	member := []Field{
		need("userCode", String, 32, "会员标识", "member"),
		need("userType", String, 10, "会员类型", "always MEMBER"),
	}
	reading := []Field{
		subsCode(), orgCode(),
		need("meterCode", String, 20, "表具编号", "number of the meter"),
		need("reading", String, 20, "读数", "m³"),
		may("readTime", Timestamp, 14, "抄表时间", "when"),
	}
	return []Interface{
		b("4001", "气户与会员信息绑定", "bind a gas account to a member", "/user/bindSubs", append(slices.Clone(member), subsCode(), orgCode(), may("nickName", String, 32, "别名", "what the member calls it"))...),
		b("4002", "气户与会员信息解绑", "unbind a gas account from a member", "/user/unbindSubs", append(slices.Clone(member), subsCode(), orgCode())...),
		b("4003", "联系人信息变更", "change a contact", "/subs/changeContact", subsCode(), orgCode(),
			need("name", String, 60, "姓名", "personal"), may("tel", String, 20, "联系电话", "personal"), may("mobile", String, 20, "手机号码", "personal")),
		b("4004", "自报读数", "report a reading", "/reading/report", reading...),
		func() Interface {
			i := b("4005", "自报读数试算", "price a reading", "/reading/trial", slices.Clone(reading)...)
			i.Read = true
			i.Answer = []Field{
				need("amount", String, 20, "气量", "gas used, m³"),
				need("chrgSum", Integer, 0, "应收金额", "charge", in(Fen)),
			}
			return i
		}(),
		b("4007", "机械表缴费", "pay a mechanical meter's bill", "/bill/payGasBill", append([]Field{
			subsCode(), orgCode(),
			need("acctshCode", String, 32, "账单编号", "number of the bill"),
			need("amount", Integer, 0, "金额", "paid", in(Fen)),
		}, payment()...)...),
		b("4008", "营业费缴费", "pay a service fee", "/bill/payBizFee", append([]Field{
			subsCode(), orgCode(),
			need("feeNo", String, 32, "费用编号", "number of the fee"),
			need("amount", Integer, 0, "金额", "paid", in(Fen)),
		}, payment()...)...),
		b("4009", "安检情况上报", "report a safety check", "/safecheck/report", subsCode(), orgCode(),
			need("checkTime", Timestamp, 14, "安检时间", "when"), need("result", String, 2, "结果", "result"),
			may("remark", String, 256, "备注", "remark"), may("mediaIds", Strings, 32, "照片", "of 2001")),
	}
}

func payment() []Field {
	return []Field{
		need("payType", String, 20, "支付方式", "way of payment"),
		need("payTransNo", String, 64, "支付流水号", "number of the payment: the idempotency key"),
		need("payTime", Timestamp, 14, "支付时间", "when"),
	}
}

// work is clause 7: work orders.
func work() []Interface {
	number := func() Field { return need("sheetNo", String, 32, "工单编号", "number of the work order") }
	sheet := []Field{
		need("sheetNo", String, 32, "工单编号", "number of the work order"),
		may("sheetType", String, 4, "工单类型", "kind"),
		may("state", String, 2, "状态", "state"),
		may("createTime", Timestamp, 14, "创建时间", "when"),
		may("content", String, 512, "内容", "what"),
	}
	return []Interface{
		{
			Code: "5001", ZH: "业务工单创建", EN: "work order create", Method: Post, Path: "/worksheet/create", Evidence: Inferred, Shape: Object,
			Request: []Field{
				subsCode(), orgCode(),
				need("sheetType", String, 4, "工单类型", "kind"),
				may("contact", String, 60, "联系人", "personal"), may("mobile", String, 20, "手机号码", "personal"),
				may("content", String, 512, "内容", "what"), may("mediaIds", Strings, 32, "照片", "of 2001"),
			},
			Answer: []Field{number()},
		},
		{
			Code: "5002", ZH: "业务工单状态变更", EN: "work order state", Method: Post, Path: "/worksheet/changeState", Evidence: Ours, Shape: Object,
			Request: []Field{number(), need("state", String, 2, "状态", "new state"), may("remark", String, 256, "备注", "remark")},
			Answer:  []Field{number()},
		},
		{
			Code: "5003", ZH: "业务工单取消", EN: "work order cancel", Method: Post, Path: "/worksheet/cancel", Evidence: Ours, Shape: Object,
			Request: []Field{number(), may("reason", String, 256, "原因", "why")},
			Answer:  []Field{number()},
		},
		{
			Code: "5004", ZH: "在途工单查询", EN: "work orders under way", Method: Get, Path: "/worksheet/queryActive", Evidence: Ours, Read: true, Shape: List,
			Request: append([]Field{subsCode(), orgCode()}, page()...), Answer: slices.Clone(sheet),
		},
		{
			Code: "5005", ZH: "查看工单详情", EN: "work order detail", Method: Get, Path: "/worksheet/getDetail", Evidence: Ours, Read: true, Shape: Object,
			Request: []Field{number()}, Answer: slices.Clone(sheet),
		},
	}
}

// pushes is clause 9: the platform calls an enterprise's server.
func pushes() []Interface {
	var all []Interface
	for _, e := range []struct{ code, zh, en string }{
		{"7001", "地址信息变化", "address changed"},
		{"7002", "供气信息变化", "supply point changed"},
		{"7003", "气户数据变化", "subscriber changed"},
		{"7004", "表具信息变化", "meter changed"},
		{"7005", "工单状态变化", "work order changed"},
	} {
		all = append(all, Interface{
			Code: e.code, ZH: e.zh, EN: e.en, Method: Push, Evidence: Documented, Shape: Object,
			Request: []Field{
				need("eventCode", String, 4, "事件编码", "7001 to 7005", grade(Ours)),
				need("eventId", String, 64, "事件编号", "names the event for ever", grade(Ours)),
				need("eventTime", Timestamp, 14, "事件时间", "when", grade(Ours)),
				need("orgCode", String, 20, "组织机构编码", "organisation code", grade(Ours)),
				may("datas", Objects, 0, "数据", "what changed; never believed, only a reason to pull", grade(Ours)),
			},
			Note: "A title; the way of a push is read in the platform team's own code: GET with signature, timestamp, nonce and echostr checks the address.",
		})
	}
	return all
}
