package catalogue

// account are the fields 3005 and 3007 answer of a gas account. Table and
// sample of the document disagree; both are read.
func account() []Field {
	return []Field{
		need("subsCode", String, 20, "气户户号", "number of the gas account"),
		need("name", String, 60, "气户名称", "name, masked: personal"),
		need("addrCode", String, 20, "地址编码", "code of 3001", alias("resType")),
		need("addrDetail", String, 60, "地址明细", "address, masked: personal", alias("displayAddr")),
		need("subsType", Char, 1, "气户类型", "1 household, 2 business"),
		need("state", Char, 1, "气户状态", "appendix D"),
		may("tel", String, 20, "联系电话", "telephone: personal"),
		may("phone", String, 20, "手机号码", "mobile: personal", alias("mobile")),
		need("orgCode", String, 20, "组织机构编码", "organisation code"),
	}
}

// subscribers is 3005 to 3009 and the dictionary.
func subscribers() []Interface {
	return []Interface{
		{
			Code: "3005", ZH: "气户信息查询", EN: "subscriber by code", Method: Get, Path: "/subs/getSubsByCode", Fallback: "/user/getSubsByCode", Evidence: Documented, Kiosk: true, Read: true, Shape: Object,
			Request: []Field{subsCode(), orgCode()}, Answer: account(),
			Note: "The document's address says /user, its sample /subs.",
		},
		{
			Code: "3006", ZH: "绑定户号查询", EN: "subscribers bound to a member", Method: Get, Path: "/user/querySubsByUserCode", Evidence: Documented, Read: true, Shape: Array,
			Request: []Field{
				need("userCode", String, 32, "会员标识", "member"),
				need("userType", String, 10, "会员类型", "always MEMBER"),
			},
			Answer: []Field{
				need("subsCode", String, 20, "气户户号", "number of the gas account"),
				may("nickName", String, 32, "别名", "what the member calls it"),
				need("orgCode", String, 20, "组织机构编码", "organisation code"),
				need("createTime", DateTime, 19, "绑定时间", "the document calls it a time of upload"),
			},
			Note: "A bare array; an error is an object.",
		},
		{
			Code: "3007", ZH: "查询气户信息", EN: "subscriber search", Method: Get, Path: "/subs/querySubs", Evidence: Documented, Read: true, Shape: List,
			Request: append([]Field{
				may("subsCode", String, 20, "气户户号", "number of the gas account"),
				may("name", String, 60, "气户名称", "part of the name"),
				may("addrCode", String, 20, "地址编码", "code of 3001"),
				may("fullAddr", String, 128, "地址全称", "part of the address"),
				may("tel", String, 20, "联系电话", "telephone"),
				may("mobile", String, 20, "手机号码", "mobile", alias("phone")),
				orgCode(),
			}, page()...),
			Answer: account(),
		},
		{
			Code: "3008", ZH: "联系人信息查询", EN: "contacts", Method: Get, Path: "/subs/queryContacts", Evidence: Inferred, Read: true, Shape: List,
			Request: []Field{subsCode(), orgCode()},
			Answer: []Field{
				need("name", String, 60, "姓名", "personal"),
				may("tel", String, 20, "联系电话", "personal"),
				may("mobile", String, 20, "手机号码", "personal", alias("phone")),
				may("certType", String, 2, "证件类型", "kind of identity card"),
				may("isDefault", Char, 1, "默认联系人", "Y or N"),
			},
		},
		{
			Code: "3009", ZH: "表具信息查询", EN: "meters of a subscriber", Method: Get, Path: "/meter/queryMeters", Evidence: Inferred, Read: true, Shape: List,
			Request: []Field{subsCode(), orgCode()},
			Answer: []Field{
				need("meterCode", String, 20, "表具编号", "number of the meter"),
				may("resCode", String, 20, "资源编码", "number of the installation"),
				may("resType", Char, 2, "表具类型", "appendix E"),
				may("resModel", Char, 2, "型号", "appendix F"),
				may("direction", Char, 1, "表向", "side"),
				may("state", Char, 1, "状态", "A usable, X not"),
				may("position", String, 60, "位置", "where it hangs"),
				may("subsCode", String, 20, "气户户号", "number of the gas account"),
				may("manageMode", Char, 1, "管理模式", "mode"),
				may("factoryCode", String, 20, "厂商代码", "code of the maker"),
				may("orgCode", String, 20, "组织机构编码", "organisation code"),
			},
		},
		{
			Code: "3025", ZH: "数据字典查询", EN: "dictionary", Method: Get, Path: "/dict/queryDict", Evidence: Ours, Kiosk: true, Read: true, Shape: List,
			Request: []Field{
				need("dictType", String, 20, "字典类型", "orgCode, addrType, subsState, resType or resModel: appendices B to F"),
				may("orgCode", String, 20, "组织机构编码", "organisation code"),
			},
			Answer: []Field{
				need("dictCode", String, 20, "字典编码", "code"),
				need("dictName", String, 60, "字典名称", "name"),
				may("state", Char, 1, "状态", "A usable, X not"),
			},
		},
	}
}

// step are the fields of one step of a price.
func step(prefix string) []Field {
	return []Field{
		need(prefix+"priceseq", Integer, 0, "阶梯序号", "step, from 1"),
		need(prefix+"price", String, 20, "单价", "price of a m³, as the company writes it"),
		may(prefix+"lower", String, 20, "起始量", "from"),
		may(prefix+"upper", String, 20, "截止量", "to; empty: no end"),
	}
}

// bill are the fields of one bill, as a sister gateway answers them.
func bill() []Field {
	return []Field{
		need("acctshCode", String, 32, "账单编号", "number of the bill"),
		may("feeType", String, 4, "费用类型", "kind"),
		may("yrMonth", String, 6, "账期", "yyyyMM"),
		may("lastReading", String, 20, "上次读数", "reading before"),
		may("currReading", String, 20, "本次读数", "reading now"),
		may("amount", String, 20, "气量", "gas used, m³"),
		may("price", String, 20, "单价", "price of a m³"),
		may("chrgSum", Integer, 0, "应收金额", "charged", in(Fen)),
		may("paidSum", Integer, 0, "已付金额", "paid", in(Fen)),
		may("unpaidFee", Integer, 0, "未付金额", "unpaid", in(Fen)),
		may("totalUnpaidFee", Integer, 0, "未付总额", "unpaid with late fee", in(Fen)),
		may("lateFeeDate", String, 14, "滞纳金起算日", "late fee runs from"),
		may("paidLateFee", Integer, 0, "已付滞纳金", "late fee paid", in(Fen)),
		may("unpaidLateFee", Integer, 0, "未付滞纳金", "late fee unpaid", in(Fen)),
	}
}

// bills is 3011 to 3018 and 3020 to 3024: money, readings and what was done at
// a gas account.
func bills() []Interface {
	of := func(more ...Field) []Field { return append([]Field{subsCode(), orgCode()}, more...) }
	return []Interface{
		{
			Code: "3011", ZH: "气价查询", EN: "gas price", Method: Get, Path: "/price/queryPrice", Evidence: Ours, Read: true, Shape: Object,
			Request: of(may("meterCode", String, 20, "表具编号", "number of the meter")),
			Answer: append([]Field{
				may("priceVersion", String, 32, "价格版本", "version"),
				may("effectiveDate", String, 14, "生效日期", "valid from"),
				need("stepList", Objects, 0, "阶梯价格", "steps"),
			}, step("stepList.")...),
		},
		{
			Code: "3012", ZH: "已使用气量查询", EN: "used gas", Method: Get, Path: "/acct/queryUsedGas", Evidence: Ours, Read: true, Shape: Object,
			Request: of(),
			Answer: append([]Field{
				may("cycleBegin", String, 14, "周期开始", "cycle from"),
				may("cycleEnd", String, 14, "周期结束", "cycle to"),
				need("amount", String, 20, "已用气量", "gas used in the cycle, m³"),
				may("stepList", Objects, 0, "阶梯价格", "steps"),
			}, step("stepList.")...),
		},
		{
			Code: "3013", ZH: "预存金额查询", EN: "deposit balance", Method: Get, Path: "/acct/queryAcctRes", Evidence: Inferred, Read: true, Shape: List,
			Request: of(may("acctResType", String, 2, "账户资源类型", "2: money")),
			Answer:  []Field{need("balance", Integer, 0, "余额", "balance; another gateway answers yuan", in(Fen))},
		},
		{
			Code: "3014", ZH: "欠费账单查询", EN: "unpaid bills", Method: Get, Path: "/bill/queryUnpaidBills", Evidence: Inferred, Kiosk: true, Read: true, Shape: List,
			Request: of(), Answer: bill(),
		},
		{
			Code: "3015", ZH: "气费账单查询", EN: "bills", Method: Get, Path: "/bill/queryBills", Evidence: Inferred, Read: true, Shape: List,
			Request: of(page()...), Answer: bill(),
		},
		{
			Code: "3017", ZH: "气量账单查询", EN: "gas volume bills", Method: Get, Path: "/bill/queryGasBills", Evidence: Inferred, Read: true, Shape: List,
			Request: of(page()...), Answer: bill(),
		},
		{
			Code: "3018", ZH: "多户号批量查询气量账单（企业）", EN: "batch volume bills", Method: Post, Path: "/bill/batchQueryGasBills", Evidence: Inferred, Read: true, Shape: List,
			Request: []Field{need("subsCodes", Strings, 20, "气户户号", "numbers of gas accounts, at most 100"), orgCode()},
			Answer:  append([]Field{need("subsCode", String, 20, "气户户号", "number of the gas account")}, bill()...),
		},
		{
			Code: "3020", ZH: "抄表历史查询", EN: "reading history", Method: Get, Path: "/acct/queryLastReadings", Evidence: Inferred, Read: true, Shape: List,
			Request: of(may("meterCode", String, 20, "表具编号", "number of the meter")),
			Answer: []Field{
				may("resCode", String, 20, "资源编码", "number of the installation"),
				need("recordDate", String, 14, "抄表日期", "day of the reading"),
				need("amount", String, 20, "读数", "reading, m³"),
				may("meterCode", String, 20, "表具编号", "number of the meter"),
				may("status", String, 2, "状态", "state of the reading"),
			},
		},
		{
			Code: "3021", ZH: "内购燃气具销售记录查询", EN: "appliances bought here", Method: Get, Path: "/appliance/queryInnerSales", Evidence: Ours, Read: true, Shape: List,
			Request: of(page()...), Answer: appliance(),
		},
		{
			Code: "3022", ZH: "外购燃气具销售记录查询", EN: "appliances bought elsewhere", Method: Get, Path: "/appliance/queryOuterSales", Evidence: Ours, Read: true, Shape: List,
			Request: of(page()...), Answer: appliance(),
		},
		{
			Code: "3023", ZH: "安检记录查询", EN: "safety checks", Method: Get, Path: "/safecheck/queryRecords", Evidence: Ours, Read: true, Shape: List,
			Request: of(page()...),
			Answer: []Field{
				need("checkNo", String, 32, "安检编号", "number of the check"),
				need("checkTime", Timestamp, 14, "安检时间", "when"),
				may("result", String, 2, "结果", "result"),
				may("remark", String, 256, "备注", "remark"),
			},
		},
		{
			Code: "3024", ZH: "隐患情况查询", EN: "hazards found", Method: Get, Path: "/safecheck/queryHazards", Evidence: Ours, Read: true, Shape: List,
			Request: of(page()...),
			Answer: []Field{
				need("hazardNo", String, 32, "隐患编号", "number of the hazard"),
				may("checkNo", String, 32, "安检编号", "number of the check"),
				may("level", String, 2, "等级", "level"),
				may("content", String, 256, "内容", "what"),
				may("state", String, 2, "状态", "state"),
			},
		},
	}
}

func appliance() []Field {
	return []Field{
		need("saleNo", String, 32, "销售编号", "number of the sale"),
		may("productName", String, 60, "产品名称", "product"),
		may("model", String, 60, "型号", "model"),
		may("saleTime", Timestamp, 14, "销售时间", "when"),
		may("amount", Integer, 0, "金额", "price", in(Fen)),
	}
}
